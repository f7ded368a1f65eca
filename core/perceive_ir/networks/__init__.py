"""Networks: two backbones behind one seam, alone or as a chain, their guidance, and the compact perceiver."""

from perceive_ir.networks.compact import Compact, CompactConfig
from perceive_ir.networks.guidance import PGCA, PGM, Backbone, Guidance, Guide, Signals, SizeNeeds, unguided
from perceive_ir.networks.model import GuidedNet, gate
from perceive_ir.networks.restormer import Restormer, RestormerConfig
from perceive_ir.networks.specialists import Specialists
from perceive_ir.networks.system import BACKBONES, System, SystemConfig
from perceive_ir.networks.tapped import PictureCFE, Readout, Tapped
from perceive_ir.networks.tower import CFE, Encoder, Perceiver, Reading, TowerConfig, pool, pool_windows

__all__ = [
    "BACKBONES", "CFE", "PGCA", "PGM", "Backbone", "Compact", "CompactConfig", "Encoder", "Guidance", "Guide",
    "GuidedNet", "Perceiver", "PictureCFE", "Reading", "Readout", "Restormer", "RestormerConfig", "Signals",
    "SizeNeeds", "Specialists", "System", "SystemConfig", "Tapped", "TowerConfig", "gate", "pool", "pool_windows",
    "unguided",
]  # fmt: skip
