"""Where encoder, decoder and base model live."""

from __future__ import annotations

import torch

Device = torch.device | str | int | None


def cuda_device(device: Device = None) -> torch.device:
    """The device that `.cuda(device)` means: the current one for None, an index, or any device."""
    return torch.device("cuda" if device is None else device)


def default_devices(n_gpus: int, encoder_decoder_same_device: bool = False) -> tuple[str, str, str]:
    """Devices of (encoder, decoder, base model) on a machine with so many GPUs.

    Encoder and decoder are each as large as the base model: with two GPUs the decoder gets one of its own, with three
    each part does.
    """
    if n_gpus == 0:
        return "cpu", "cpu", "cpu"
    last = n_gpus - 1
    if encoder_decoder_same_device:
        return "cuda:0", "cuda:0", f"cuda:{min(1, last)}"
    return "cuda:0", f"cuda:{min(1, last)}", "cuda:2" if n_gpus > 2 else "cuda:0"


def resolve_device_config_for_model(
    device: Device = None,
    device_encoder: Device = None,
    device_decoder: Device = None,
    device_base_model: Device = None,
    encoder_decoder_same_device: bool = False,
) -> tuple[torch.device, torch.device, torch.device, bool]:
    """Where each part goes: its own argument, else `device`, else the rule for this machine's GPUs.

    Args:
        device: For every part without an argument of its own.
        device_encoder: Of the encoder.
        device_decoder: Of the decoder.
        device_base_model: Of the base model.
        encoder_decoder_same_device: Let the rule put both halves on one GPU.

    Returns:
        (encoder, decoder, base model, whether that takes several GPUs).
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    rule = default_devices(n_gpus, encoder_decoder_same_device)
    given = (device_encoder, device_decoder, device_base_model)
    encoder, decoder, base_model = (
        torch.device(own if own is not None else device if device is not None else ruled)
        for own, ruled in zip(given, rule, strict=True)
    )
    gpus = {place for place in (encoder, decoder, base_model) if place.type == "cuda"}
    return encoder, decoder, base_model, len(gpus) > 1
