"""Is the network wired right? `check` measures it on data; `infer` finds a wiring that is."""

from sdediff.wiring.before import misfit, warn_of_misfit
from sdediff.wiring.checking import check
from sdediff.wiring.inference import infer
from sdediff.wiring.judgement import LevelRow
from sdediff.wiring.ranking import Inference
from sdediff.wiring.readings import Estimate, Reading
from sdediff.wiring.report import WiringReport

__all__ = ["Estimate", "Inference", "LevelRow", "Reading", "WiringReport", "check", "infer", "misfit", "warn_of_misfit"]
