"""Models of other libraries as a ScoreModel."""

from sdediff.bridges.errors import BridgeError
from sdediff.bridges.network import DiffusersNetwork
from sdediff.bridges.pipelines import from_diffusers, is_diffusers_folder
from sdediff.bridges.schedulers import reading_of
from sdediff.bridges.spacing import scheduler_times

__all__ = ["BridgeError", "DiffusersNetwork", "from_diffusers", "is_diffusers_folder", "reading_of", "scheduler_times"]
