"""Clips from plans, made worse in many ways, and their mel features, all on the device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import Gemma4AudioFeatureExtractor

from scripts.tiny_gemma.voices import RATE_HZ


class Sound:
    """Composes and spoils clips and computes what the stock extractor computes.

    Args:
        bank: int16[T], all runs one after another.
        device: Where everything happens.
    """

    def __init__(self, bank: Tensor, device: torch.device) -> None:
        extractor = Gemma4AudioFeatureExtractor()
        filters = np.asarray(extractor.mel_filters, np.float32)
        self._bank = torch.nn.functional.pad(bank, (0, 2)).to(device)
        self._filters = torch.from_numpy(filters).to(device)
        self._window = torch.from_numpy(extractor.window).to(device)
        self._floor = float(extractor.mel_floor)
        self._size = extractor.fft_length

    def compose(self, plan: dict[str, Tensor], length: int) -> Tensor:
        """Clean clips: float32[clips, length], zero after the end of each."""
        time = torch.arange(length, device=self._bank.device, dtype=torch.int32)
        everywhere = time.expand(plan["starts"].shape[0], length).contiguous()
        piece = torch.searchsorted(plan["starts"], everywhere, right=True) - 1
        known = piece >= 0
        piece = piece.clamp(min=0)

        def of(name: str) -> Tensor:
            return plan[name].gather(1, piece)

        position = (time - of("starts")).float() * of("speeds")
        whole = position.floor()
        known &= (whole >= 0) & (whole < of("lengths") - 1)
        index = torch.where(known, whole.long() + of("offsets"), 0)
        fraction = position - whole
        early, late = self._bank[index].float(), self._bank[index + 1].float()
        sound = (early + (late - early) * fraction) * of("gains") / 32768
        return torch.where(known & (time < plan["samples"][:, None]), sound, 0.0)

    def spoil(self, clean: Tensor, samples: Tensor) -> Tensor:
        """The same clips through rooms, microphones, lines and noise; some stay clean."""
        clips, length = clean.shape
        device = clean.device

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(clips, 1, device=device) * (high - low) + low

        def chance(odds: float) -> Tensor:
            return torch.rand(clips, 1, device=device) < odds

        size = 1 << (length + RATE_HZ // 4 - 1).bit_length()
        hertz = torch.linspace(0, RATE_HZ / 2, size // 2 + 1, device=device)[None]
        octaves = torch.log2(hertz.clamp(min=50.0) / 1000.0)

        # Lines and microphones: a tilt, and edges of the band.
        response = 10 ** (uniform(-4, 4) * chance(0.5) * octaves / 20)
        high, low = uniform(2800, 7500), uniform(60, 400)
        response = response * torch.where(chance(0.3), torch.sigmoid((high - hertz) / 100), 1.0)
        response = response * torch.where(chance(0.3), torch.sigmoid((hertz - low) / 20), 1.0)

        # A room: noise that decays, after the direct sound.
        tail = torch.arange(RATE_HZ // 4, device=device)[None] / RATE_HZ
        decay = torch.exp(-tail * 6.9 / uniform(0.08, 0.4)) * (tail > 0.002)
        noise = torch.randn(clips, RATE_HZ // 4, device=device) * decay
        noise = noise / noise.square().sum(1, keepdim=True).sqrt().clamp(min=1e-6)
        noise = noise * uniform(0.1, 0.7) * chance(0.4)
        room = 1 + torch.fft.rfft(noise, n=size)

        sound = torch.fft.irfft(torch.fft.rfft(clean, n=size) * room * response, n=size)
        sound = sound[:, :length]
        sound = sound / sound.abs().amax(1, keepdim=True).clamp(min=1e-4)

        # Noise from white to brown, between 8 and 45 dB under the speech.
        colour = 10 ** (-uniform(0, 6) * octaves / 20)
        white = torch.fft.rfft(torch.randn(clips, length, device=device), n=size)
        hiss = torch.fft.irfft(white * colour, n=size)[:, :length]
        hiss = hiss / hiss.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
        level = 0.15 * 10 ** (-uniform(8, 45) / 20)
        sound = sound + hiss * level * chance(0.7)

        gain = 10 ** (-uniform(0, 30) / 20)
        inside = torch.arange(length, device=device) < samples[:, None]
        return torch.where(inside, (sound * gain).clamp(-1, 1), 0.0)

    def mel(self, sound: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Features and their mask, as the extractor gives them for padded clips.

        Args:
            sound: float32[clips, length].
            samples: int[clips], how many of them are the clip.

        Returns:
            float32[clips, length // 160, 128], bool[clips, length // 160].
        """
        frames = sound.shape[1] // 160
        padded = torch.nn.functional.pad(sound, (160, 160))
        windows = padded.unfold(1, 320, 160)[:, :frames] * self._window
        magnitude = torch.fft.rfft(windows, n=self._size).abs()
        logs = torch.log(magnitude @ self._filters + self._floor)
        valid = torch.arange(frames, device=sound.device) < ((samples - 1) // 160)[:, None]
        return logs * valid[..., None], valid
