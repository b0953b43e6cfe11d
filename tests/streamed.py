"""Makes small layers stream their weights, which no solver would."""

from toolchain.hardware import folding, foldings

CONSTANT = ("stem",)
"""Layers that stay constants; the others are streamed where they can be."""


def streamed_only(monkeypatch, most: int = 4):
    """Streams what can be streamed, with as many decoders as possible up to `most`."""
    everything = foldings.all_foldings

    def chosen(node, types, output, execute, loaded=0, streams=None):
        found = list(everything(node, types, output, execute, loaded, streams))
        possible = [one for one in found if one.streamed and one.macs <= most]
        if possible and node.layer not in CONSTANT:
            decoders = max(one.macs for one in possible)
            return [one for one in possible if one.macs == decoders]
        return [one for one in found if not one.streamed]

    monkeypatch.setattr(folding, "all_foldings", chosen)
    monkeypatch.setattr("toolchain.hardware.resources.MASTERS", 100)
