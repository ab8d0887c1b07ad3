"""From a quantised encoder and its input to a program and a memory image."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.golden.encoder import QuantizedEncoder
from acceltran_sim.program.assembler import encode_program
from acceltran_sim.program.column_order import sort_columns
from acceltran_sim.program.encoder_steps import EncoderSteps
from acceltran_sim.program.image import Image, Program
from acceltran_sim.program.layout import Shape, check_limits, group_elements
from acceltran_sim.program.products import DEFAULT_ORDER, check_order
from acceltran_sim.program.steps import emit
from acceltran_sim.program.vectors import pack_vectors, rows_to_vectors
from acceltran_sim.program.weights import layer_pieces

__all__ = ["DEFAULT_BASE", "build"]

DEFAULT_BASE = 0x8000_0000
"""Address of the memory image unless told otherwise."""


def build(
    config: AcceleratorConfig,
    encoder: QuantizedEncoder,
    raw: npt.NDArray[np.integer],
    lengths: Sequence[int] | npt.NDArray[np.integer],
    *,
    order: str = DEFAULT_ORDER,
    base: int = DEFAULT_BASE,
) -> Program:
    """Build the program that runs ``encoder`` on one machine.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    encoder : QuantizedEncoder
        Layers to run, in the machine's number format.
    raw : integer array [batch, sequence, hidden]
        Raw input, in the scale of the first layer's input.
    lengths : [batch]
        Valid rows.
    order : str
        Tile loops of every product, outermost first.
    base : int
        Address of the memory image.

    Raises
    ------
    InputError
        For a job beyond the limits or the buffers of the machine.
    """
    if encoder.fmt != config.fmt:
        raise ValueError(f"Format of the encoder must be {config.fmt}, not {encoder.fmt}")
    check_order(order)
    first = encoder.layers[0]
    batch, sequence, hidden = raw.shape
    sizes = {
        "hidden": first.hidden,
        "heads": first.heads,
        "intermediate": first.intermediate.matrix.shape[1],
    }
    check_limits(config, sequence=sequence, **sizes)
    shape = Shape.of(config, **sizes)
    rows = tuple(int(length) for length in lengths)
    capacity = config.activation_vectors // config.array.clusters
    groups = group_elements(shape, rows, capacity)

    image = Image(base)
    valid = np.concatenate([raw[b, :length] for b, length in enumerate(rows)])
    vectors = rows_to_vectors(valid, shape.tile)
    input_address = image.append(pack_vectors(vectors, config))
    ordered = encoder.layers
    if config.datapath.weight_window:
        ordered = tuple(sort_columns(layer) for layer in ordered)
    layers = [layer_pieces(config, shape, layer, first=n == 0) for n, layer in enumerate(ordered)]
    addresses = {
        piece: image.append(pack_vectors(piece.vectors, config))
        for pieces in layers
        for parts in pieces.values()
        for piece in parts
    }
    output_address = image.reserve(vectors.shape[0] * shape.hidden_blocks * config.vector_bytes)

    builder = EncoderSteps(config, shape, order)
    done = 0
    for layout in groups:
        offset = done * shape.hidden_blocks * config.vector_bytes
        builder.add_group(layout, ordered, layers, input_address + offset, output_address + offset)
        done += layout.rows
    commands = tuple(emit(config, builder.steps, addresses))
    program_address = image.append(encode_program(commands))
    return Program(
        config=config,
        commands=commands,
        base=base,
        image=image.content(),
        program_address=program_address,
        output_address=output_address,
        lengths=rows,
        sequence=sequence,
        hidden=hidden,
    )
