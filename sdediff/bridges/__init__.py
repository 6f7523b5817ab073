"""Models of other libraries as a ScoreModel."""

from sdediff.bridges.autoencoder import DiffusersAutoencoder
from sdediff.bridges.checkpoints import read_checkpoint
from sdediff.bridges.edm import from_edm
from sdediff.bridges.errors import BridgeError
from sdediff.bridges.guided_diffusion import from_guided_diffusion
from sdediff.bridges.k_diffusion import from_k_diffusion
from sdediff.bridges.kinds import KINDS, kind_of
from sdediff.bridges.labels import LabelledNetwork
from sdediff.bridges.network import DiffusersNetwork
from sdediff.bridges.paired_texts import PairedTexts
from sdediff.bridges.pickles import Record
from sdediff.bridges.pipelines import from_diffusers, is_diffusers_folder
from sdediff.bridges.scheduler_run import StridedDDIM, scheduler_options
from sdediff.bridges.schedulers import reading_of
from sdediff.bridges.score_sde import from_score_sde
from sdediff.bridges.spacing import scheduler_times
from sdediff.bridges.text import TransformersText

__all__ = [
    "KINDS",
    "BridgeError",
    "DiffusersAutoencoder",
    "DiffusersNetwork",
    "LabelledNetwork",
    "PairedTexts",
    "Record",
    "StridedDDIM",
    "TransformersText",
    "from_diffusers",
    "from_edm",
    "from_guided_diffusion",
    "from_k_diffusion",
    "from_score_sde",
    "is_diffusers_folder",
    "kind_of",
    "read_checkpoint",
    "reading_of",
    "scheduler_options",
    "scheduler_times",
]
