"""Hugging Face's tables in a subject's layers, wherever these are."""

from types import SimpleNamespace

import torch

from validation.execution.graft import grafted


def test_each_layer_gets_tables_on_its_own_device() -> None:
    """One copy a device, and its own back. Without GPUs `meta` stands for the second."""
    places = ("cpu", "meta", "meta")
    tables = [torch.zeros(2, 4, device=place) for place in places]
    layers = [SimpleNamespace(rotary_cos=table, rotary_sin=table) for table in tables]
    cos, sin = torch.ones(3, 4), torch.ones(3, 4)
    with grafted(layers, cos, sin) as is_held:
        for layer, place in zip(layers, places, strict=True):
            for table in (layer.rotary_cos, layer.rotary_sin):
                assert (table.device.type, table.shape) == (place, (3, 4))
        assert layers[0].rotary_cos is cos
        assert layers[1].rotary_cos is layers[2].rotary_cos
        layers[2].rotary_sin = tables[2]
        assert [is_held(layer) for layer in range(3)] == [True, True, False]
    for layer, table in zip(layers, tables, strict=True):
        assert layer.rotary_cos is layer.rotary_sin is table
