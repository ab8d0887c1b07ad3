"""From a quantised encoder and its input to a program and a memory image."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from acceltran.arch.config import AcceleratorConfig
from acceltran_sim.errors import InputError
from acceltran_sim.golden.encoder import QuantizedEncoder, QuantizedLayer
from acceltran_sim.program.assembler import encode_program
from acceltran_sim.program.column_order import sort_columns
from acceltran_sim.program.encoder_steps import EncoderSteps
from acceltran_sim.program.image import Image, Program
from acceltran_sim.program.layout import Shape, check_limits, group_elements
from acceltran_sim.program.products import DEFAULT_ORDER, check_order
from acceltran_sim.program.steps import emit
from acceltran_sim.program.vectors import pack_vectors, rows_to_vectors
from acceltran_sim.program.weights import Piece, WeightBuffer, layer_pieces

__all__ = ["DEFAULT_BASE", "build", "build_in_turn", "build_resident"]

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
    batch = slice(None)
    return _build(config, [(encoder, batch)], raw, lengths, order, base)[0]


def build_in_turn(
    config: AcceleratorConfig,
    encoders: Sequence[QuantizedEncoder],
    raw: npt.NDArray[np.integer],
    lengths: Sequence[int] | npt.NDArray[np.integer],
    *,
    order: str = DEFAULT_ORDER,
    base: int = DEFAULT_BASE,
) -> list[Program]:
    """Build a program for each batch element, to be run one after the other in one memory.

    Parameters are those of ``build``, except for ``encoders``: one for each batch element, which
    differ in their thresholds only. All programs have the same image.
    """
    parts = [(encoder, slice(n, n + 1)) for n, encoder in enumerate(encoders)]
    return _build(config, parts, raw, lengths, order, base)


def build_resident(
    config: AcceleratorConfig,
    encoder: QuantizedEncoder,
    raw: npt.NDArray[np.integer],
    lengths: Sequence[int] | npt.NDArray[np.integer],
    *,
    order: str = DEFAULT_ORDER,
    base: int = DEFAULT_BASE,
) -> list[Program]:
    """Build three programs, to be run one after the other on one machine.

    The first loads all weights and the input into the buffers, the second runs the encoder from
    buffer to buffer and moves nothing over DRAM but its commands, the third stores the result.
    Parameters are those of ``build``; InputError also for what does not fit the buffers at once.
    """
    return _build(config, [(encoder, slice(None))], raw, lengths, order, base, resident=True)


def _build(
    config: AcceleratorConfig,
    parts: Sequence[tuple[QuantizedEncoder, slice]],
    raw: npt.NDArray[np.integer],
    lengths: Sequence[int] | npt.NDArray[np.integer],
    order: str,
    base: int,
    *,
    resident: bool = False,
) -> list[Program]:
    """Programs of parts of the batch, in one image that holds the weights once."""
    encoder = parts[0][0]
    if encoder.fmt != config.fmt:
        raise ValueError(f"Format of the encoder must be {config.fmt}, not {encoder.fmt}")
    check_order(order)
    first = encoder.layers[0]
    _, sequence, hidden = raw.shape
    sizes = {
        "hidden": first.hidden,
        "heads": first.heads,
        "intermediate": first.intermediate.matrix.shape[1],
    }
    check_limits(config, sequence=sequence, **sizes)
    shape = Shape.of(config, **sizes)

    image = Image(base)
    rows = [tuple(int(length) for length in lengths[part]) for _, part in parts]
    vectors = [
        rows_to_vectors(
            np.concatenate([x[:length] for x, length in zip(raw[part], valid, strict=True)]),
            shape.tile,
        )
        for (_, part), valid in zip(parts, rows, strict=True)
    ]
    groups = [group_elements(config, shape, valid, at_once=resident) for valid in rows]
    inputs = [image.append(pack_vectors(part, config)) for part in vectors]
    first_operation = EncoderSteps(config, shape, order).first_operation
    layers = [
        layer_pieces(config, shape, layer, first="" if n else first_operation)
        for n, layer in enumerate(_ordered(config, encoder))
    ]
    names = {piece: name for pieces in layers for name, cut in pieces.items() for piece in cut}
    if resident:
        _check_weights(config, names)
    addresses = {piece: image.append(pack_vectors(piece.vectors, config)) for piece in names}
    outputs = [
        image.reserve(sum(valid) * shape.hidden_blocks * config.vector_bytes) for valid in rows
    ]

    programs = []
    for n, (encoder, _) in enumerate(parts):
        ordered = _ordered(config, encoder)
        sections = [EncoderSteps(config, shape, order) for _ in range(3 if resident else 1)]
        if resident:
            [layout] = groups[n]
            sections[0].load(layout, inputs[n])
            sections[0].load_weights(names)
            sections[1].run(layout, ordered, layers)
            sections[2].store(layout, outputs[n])
        else:
            offset = 0
            for layout in groups[n]:
                sections[0].add_group(
                    layout, ordered, layers, inputs[n] + offset, outputs[n] + offset
                )
                valid = sum(sum(part.lengths) for part in layout.rounds)
                offset += valid * shape.hidden_blocks * config.vector_bytes
        buffer = WeightBuffer(config.weight_vectors)
        for section in sections:
            commands = tuple(emit(config, section.steps, addresses, buffer))
            programs.append((n, commands, image.append(encode_program(commands))))
    content = image.content()
    return [
        Program(
            config=config,
            commands=commands,
            base=base,
            image=content,
            program_address=address,
            output_address=outputs[n],
            lengths=rows[n],
            sequence=sequence,
            hidden=hidden,
            weights={where: names[piece] for piece, where in addresses.items()},
        )
        for n, commands, address in programs
    ]


def _check_weights(config: AcceleratorConfig, pieces: Iterable[Piece]) -> None:
    """Raise InputError unless all weights fit the buffer."""
    needed, held = sum(piece.size for piece in pieces), config.weight_vectors
    if needed > held:
        raise InputError(
            f"All weights must fit the weight buffer at once: they need {needed} vectors,"
            f" the buffer holds {held}"
        )


def _ordered(config: AcceleratorConfig, encoder: QuantizedEncoder) -> tuple[QuantizedLayer, ...]:
    """Layers as the machine gets them: with columns sorted if that saves cycles."""
    if not config.datapath.weight_window:
        return encoder.layers
    return tuple(sort_columns(layer) for layer in encoder.layers)
