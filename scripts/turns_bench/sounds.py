"""What the recordings lack, generated: noises, music, hums, coughs, short words.

All float32, mono, 16 kHz, about unit power where not said otherwise; `at_level` sets the
level. The same generator state gives the same sound.

    white, pink    equal power a hertz; equal power an octave
    fan            below 400 Hz, with the 50 Hz hum of mains and its overtones
    clatter        dishes: struck resonances, two a second, over quiet pink noise
    music          chords with eight overtones, a melody with vibrato, a bass and a drum
    hum            "mhm": a voiced nasal of two syllables
    uh-huh         two open vowels, a breath between
    yeah, yes      a gliding vowel, without and with an s
    cough          two bursts of noise through the resonances of a throat
    throat         a cleared throat: rough voice and noise
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.audio.pcm import SAMPLE_RATE_HZ, Samples

Signal = NDArray[np.float64]
Make = Callable[[int, np.random.Generator], Samples]


def at_level(samples: Samples, level_dbfs: float) -> Samples:
    """Scale to a root mean square of `level_dbfs` below full scale (1.0)."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return (samples * np.float32(10 ** (level_dbfs / 20) / np.sqrt(power))).astype(np.float32)


def _unit(signal: Signal) -> Samples:
    scaled: Samples = (signal / np.sqrt(np.mean(np.square(signal)) + 1e-12)).astype(np.float32)
    return scaled


def _shaped(length: int, rng: np.random.Generator, gain: Callable[[Signal], Signal]) -> Signal:
    """Noise with a gain by frequency in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequencies = np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(spectrum * gain(frequencies), length)


def _time_s(length: int) -> Signal:
    return np.arange(length) / SAMPLE_RATE_HZ


# ---------------------------------------------------------------- noises


def white(length: int, rng: np.random.Generator) -> Samples:
    """Equal power at every frequency."""
    return rng.standard_normal(length).astype(np.float32)


def pink(length: int, rng: np.random.Generator) -> Samples:
    """Equal power in every octave, from 30 Hz on."""
    return _unit(_shaped(length, rng, lambda hz: 1 / np.sqrt(np.maximum(hz, 30.0))))


def fan(length: int, rng: np.random.Generator) -> Samples:
    """A fan: low noise, and the hum of the mains."""
    air = _unit(_shaped(length, rng, lambda hz: 1 / (1 + (hz / 400) ** 2)))
    time_s = _time_s(length)
    hum = sum(
        np.sin(2 * np.pi * 50 * overtone * time_s + rng.uniform(0, 6.28)) / overtone
        for overtone in range(1, 9)
    )
    return _unit(air + 0.5 * hum)


def clatter(length: int, rng: np.random.Generator) -> Samples:
    """Dishes: struck resonances."""
    sound = 0.05 * pink(length, rng).astype(np.float64)
    ring = SAMPLE_RATE_HZ // 5
    time_s = _time_s(ring)
    for start in np.sort(rng.integers(0, length, size=max(1, 2 * length // SAMPLE_RATE_HZ))):
        hz = rng.uniform(900, 5500, size=4)
        decay_s = rng.uniform(0.01, 0.05)
        strike = sum(np.sin(2 * np.pi * one * time_s) for one in hz) * np.exp(-time_s / decay_s)
        end = min(length, int(start) + ring)
        sound[start:end] += rng.uniform(0.3, 1.0) * strike[: end - start]
    return _unit(sound)


# ---------------------------------------------------------------- music

_SCALE = (0, 2, 4, 5, 7, 9, 11)
_PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3))


def music(length: int, rng: np.random.Generator) -> Samples:
    """A piece: chords, a melody with vibrato, a bass and a drum; key and tempo at random."""
    beat = int(SAMPLE_RATE_HZ * 60 / rng.uniform(70, 130))
    key_hz = 220 * 2 ** (rng.integers(-5, 7) / 12)
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    sound = np.zeros(length + 4 * beat)
    for bar, start in enumerate(range(0, length, 4 * beat)):
        root = progression[bar % len(progression)]
        for degree in (root, root + 2, root + 4):
            _add(sound, start, 0.15 * _tone(_pitch(key_hz, degree), 4 * beat, rng))
        _add(sound, start, 0.3 * _tone(_pitch(key_hz, root) / 4, 4 * beat, rng))
        position = start
        while position < start + 4 * beat:
            duration = beat // int(rng.choice([1, 2]))
            if rng.random() < 0.85:
                degree = root + int(rng.choice([0, 2, 4, 7, 1]))
                tone = _tone(_pitch(2 * key_hz, degree), duration, rng, vibrato=True)
                _add(sound, position, 0.4 * tone)
            position += duration
        for drum in range(4):
            noise = rng.standard_normal(beat // 2)
            _add(sound, start + drum * beat, 0.3 * noise * np.exp(-_time_s(beat // 2) / 0.03))
    return _unit(sound[:length])


def _pitch(key_hz: float, degree: int) -> float:
    octave, step = divmod(degree, len(_SCALE))
    return float(key_hz * 2 ** (octave + _SCALE[step] / 12))


def _tone(hz: float, length: int, rng: np.random.Generator, *, vibrato: bool = False) -> Signal:
    """One note: eight overtones, a quick start, a slow fall."""
    time_s = _time_s(length)
    depth = 0.01 * np.sin(2 * np.pi * 5.5 * time_s) if vibrato else 0.0
    phase = 2 * np.pi * np.cumsum(np.full(length, hz) * (1 + depth)) / SAMPLE_RATE_HZ
    overtones = range(1, min(9, int(SAMPLE_RATE_HZ / 2.2 / hz) + 1))
    wave = sum(np.sin(one * phase + rng.uniform(0, 6.28)) / one**1.2 for one in overtones)
    envelope = np.minimum(time_s / 0.02, 1) * np.exp(-time_s / 0.6)
    return np.asarray(wave * envelope)


def _add(sound: Signal, start: int, part: Signal) -> None:
    end = min(sound.size, start + part.size)
    sound[start:end] += part[: end - start]


# ---------------------------------------------------------------- small sounds of a person


def _voiced(
    pitch_hz: Sequence[float],
    formants_hz: Sequence[Sequence[float]],
    length: int,
    rng: np.random.Generator,
) -> Signal:
    """A voice: pulses of a gliding pitch through gliding resonances.

    Args:
        pitch_hz: Where the pitch goes, in equal steps.
        formants_hz: Where each resonance goes, in equal steps.
        length: In samples.
        rng: For the roughness of the voice.
    """
    steps = np.linspace(0, 1, length)
    pitch = np.interp(steps, np.linspace(0, 1, len(pitch_hz)), pitch_hz)
    pitch *= 1 + 0.01 * np.cumsum(rng.standard_normal(length)) / np.sqrt(length)
    phase = np.cumsum(pitch) / SAMPLE_RATE_HZ
    wave = np.zeros(length)
    tracks = [np.interp(steps, np.linspace(0, 1, len(one)), one) for one in formants_hz]
    for overtone in range(1, int(4000 / np.max(pitch))):
        hz = overtone * pitch
        # The source falls by 12 dB an octave; each resonance is 80 to 120 Hz wide.
        gain = sum(
            1 / (1 + ((hz - track) / (50 + 15 * number)) ** 2) / (1 + 0.4 * number)
            for number, track in enumerate(tracks)
        )
        wave += np.sin(2 * np.pi * overtone * phase) * (gain + 0.02) / overtone**0.5
    wave += 0.02 * rng.standard_normal(length) * np.max(np.abs(wave))
    return wave


def _envelope(length: int, rise_s: float = 0.03, fall_s: float = 0.06) -> Signal:
    time_s = _time_s(length)
    return np.minimum(1, np.minimum(time_s / rise_s, time_s[::-1] / fall_s))


def _ms(duration_ms: float) -> int:
    return int(duration_ms * SAMPLE_RATE_HZ / 1000)


def hum(rng: np.random.Generator) -> Samples:
    """ "Mhm": the second syllable higher than the first."""
    base = rng.uniform(95, 210)
    first, second = _ms(rng.uniform(110, 160)), _ms(rng.uniform(140, 220))
    nasal = ((260, 270), (1000, 1050), (2200, 2250))
    breath = 0.1 * rng.standard_normal(_ms(40)) * _envelope(_ms(40), 0.01, 0.01)
    low = _voiced((base, base * 0.95), nasal, first, rng) * _envelope(first)
    high = _voiced((base * 1.1, base * 1.25, base * 1.15), nasal, second, rng)
    return _unit(np.concatenate((low, breath, high * _envelope(second))))


def uh_huh(rng: np.random.Generator) -> Samples:
    """ "Uh-huh"."""
    base = rng.uniform(95, 210)
    first, second = _ms(rng.uniform(110, 150)), _ms(rng.uniform(150, 210))
    vowel = ((620, 600), (1200, 1220), (2450, 2400))
    breath = 0.25 * rng.standard_normal(_ms(60)) * _envelope(_ms(60), 0.02, 0.02)
    low = _voiced((base, base * 0.95), vowel, first, rng) * _envelope(first)
    high = _voiced((base * 1.1, base * 1.3), vowel, second, rng) * _envelope(second)
    return _unit(np.concatenate((low, breath, high)))


def yeah(rng: np.random.Generator) -> Samples:
    """ "Yeah"."""
    base, length = rng.uniform(95, 210), _ms(rng.uniform(240, 330))
    glide = ((300, 550, 700), (2250, 1900, 1500), (2900, 2600, 2450))
    voice = _voiced((base * 1.15, base * 1.05, base * 0.85), glide, length, rng)
    return _unit(voice * _envelope(length))


def yes(rng: np.random.Generator) -> Samples:
    """ "Yes"."""
    base, length = rng.uniform(95, 210), _ms(rng.uniform(180, 230))
    glide = ((300, 500, 560), (2250, 1950, 1800), (2900, 2600, 2500))
    voice = _voiced((base * 1.15, base * 1.05, base), glide, length, rng) * _envelope(length)
    hiss_length = _ms(rng.uniform(110, 160))
    hiss = _shaped(hiss_length, rng, lambda hz: 1 / (1 + ((hz - 5800) / 1200) ** 4))
    hiss = _unit(hiss * _envelope(hiss_length)) * 0.35
    return _unit(np.concatenate((_unit(voice), hiss)))


def cough(rng: np.random.Generator) -> Samples:
    """Two bursts."""
    bursts = []
    for loudness in (1.0, rng.uniform(0.4, 0.8)):
        length = _ms(rng.uniform(120, 200))
        throat_hz = rng.uniform(450, 750), rng.uniform(1200, 1700), rng.uniform(2600, 3200)
        air = _shaped(
            length,
            rng,
            lambda hz, peaks=throat_hz: 0.1 + sum(1 / (1 + ((hz - p) / 200) ** 2) for p in peaks),
        )
        fall = np.exp(-_time_s(length) / 0.05) * np.minimum(1, _time_s(length) / 0.004)
        bursts += [loudness * _unit(air).astype(np.float64) * fall, np.zeros(_ms(60))]
    return _unit(np.concatenate(bursts))


def throat(rng: np.random.Generator) -> Samples:
    """A cleared throat."""
    length = _ms(rng.uniform(280, 400))
    rough = _voiced((70, 90, 75), ((500, 520), (1400, 1350), (2500, 2450)), length, rng)
    flutter = 0.6 + 0.4 * np.sign(np.sin(2 * np.pi * rng.uniform(25, 35) * _time_s(length)))
    air = _shaped(length, rng, lambda hz: 1 / (1 + ((hz - 900) / 900) ** 2))
    mixed = _unit(rough) * 0.7 + _unit(air) * 0.7
    return _unit(mixed * flutter * _envelope(length))


NOISES: dict[str, Make] = {"pink": pink, "white": white, "fan": fan, "clatter": clatter}
BACKCHANNELS: dict[str, Callable[[np.random.Generator], Samples]] = {
    "hum": hum,
    "uh-huh": uh_huh,
    "yeah": yeah,
    "yes": yes,
    "cough": cough,
    "throat": throat,
}
