"""Pictures in files: read with everything needed to write them back, written whole or not at all."""

from perceive_ir.files._atomic import PARTIAL_SUFFIX
from perceive_ir.files._collect import collect, natural
from perceive_ir.files._description import read_description, side_json_path, write_side_json
from perceive_ir.files._picture import Meta, Picture, TiffMeta
from perceive_ir.files._read import read_image
from perceive_ir.files._write import SUFFIXES, check_output, suffix_of, writable_name, write_image

__all__ = [
    "PARTIAL_SUFFIX",
    "SUFFIXES",
    "Meta",
    "Picture",
    "TiffMeta",
    "check_output",
    "collect",
    "natural",
    "read_description",
    "read_image",
    "side_json_path",
    "suffix_of",
    "writable_name",
    "write_image",
    "write_side_json",
]
