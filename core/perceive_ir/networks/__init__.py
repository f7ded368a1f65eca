"""Networks: four backbones behind one seam, alone or as a chain, their guidance, the perceiver, and those of others."""

from perceive_ir.networks.block import Block, recompute_blocks
from perceive_ir.networks.compact import Compact, CompactConfig
from perceive_ir.networks.encoders import TOWER, ClipSpace, ClsTaps, EncoderConfig
from perceive_ir.networks.foreign import ForeignNet
from perceive_ir.networks.guidance import PGCA, PGM, Backbone, Guidance, Guide, Signals, SizeNeeds, unguided
from perceive_ir.networks.measures import LIGHT, PATCH, light_of
from perceive_ir.networks.model import GuidedNet, gate
from perceive_ir.networks.nafnet import NAFNet, NAFNetConfig
from perceive_ir.networks.promptir import PromptIR, PromptIRConfig
from perceive_ir.networks.restormer import Restormer, RestormerConfig
from perceive_ir.networks.specialists import Specialists
from perceive_ir.networks.system import BACKBONES, System, SystemConfig
from perceive_ir.networks.tapped import PictureCFE, Readout, Tapped
from perceive_ir.networks.tower import (
    CFE,
    SOFT,
    Closer,
    Encoder,
    Overall,
    Perceiver,
    Reading,
    TowerConfig,
    far_shares,
    gather,
    pool,
    pool_windows,
)

__all__ = [
    "BACKBONES", "CFE", "LIGHT", "PATCH", "PGCA", "PGM", "SOFT", "TOWER", "Backbone", "Block", "ClipSpace", "Closer",
    "ClsTaps", "Compact", "CompactConfig", "Encoder", "EncoderConfig", "ForeignNet", "Guidance", "Guide", "GuidedNet",
    "NAFNet", "NAFNetConfig", "Overall", "Perceiver", "PictureCFE", "PromptIR", "PromptIRConfig", "Reading", "Readout",
    "Restormer", "RestormerConfig", "Signals", "SizeNeeds", "Specialists", "System", "SystemConfig", "Tapped",
    "TowerConfig", "far_shares", "gate", "gather", "light_of", "pool", "pool_windows", "recompute_blocks", "unguided",
]  # fmt: skip
