"""Fetch a checkpoint from the Hugging Face hub and tell how far that is.

Proxies, mirrors (`HF_ENDPOINT`), tokens and the cache's folder are those of Hugging Face's own
libraries. What came before a download broke off is kept, and the next one goes on there.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

from huggingface_hub import snapshot_download
from tqdm import tqdm

from agent.engine.contract import ProgressCallback
from agent.errors import ModelStoreError

_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "model*.safetensors"]
"""What is loaded; a repository may hold the same weights in other formats beside them."""
_FOLDERS = ["*/*"]
_GB, _MB = 1_000_000_000, 1_000_000


def fetch_checkpoint(name: str, progress: ProgressCallback) -> str:
    """The folder of a checkpoint; blocks while it is fetched.

    Args:
        name: A folder, which is taken as it is, or a name on the hub.
        progress: Told how many bytes have come; called from several threads, one at a time.

    Raises:
        ModelStoreError: It is not in the cache and cannot be fetched.
    """
    if Path(name).is_dir():
        return name
    try:
        return snapshot_download(
            name,
            allow_patterns=_FILES,
            ignore_patterns=_FOLDERS,
            tqdm_class=_bars(f"Downloading {name}", progress),
        )
    except Exception as error:  # the hub, the network and the disk raise anything
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelStoreError(
            f"cannot download {name}: {first_line}; what came is kept, start again to go on"
        ) from error


def _bars(doing: str, progress: ProgressCallback) -> type[Any]:
    """Progress bars that draw nothing and report their bytes.

    The hub's library has one for bytes that came and one for bytes written; with its newer
    protocol either may be ahead.
    """
    lock = Lock()
    of_bytes: list[Bar] = []

    class Bar(tqdm):  # type: ignore[misc]  # it has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            kept = {name: options[name] for name in ("total", "initial") if name in options}
            super().__init__(*args, disable=True, **kept)
            if options.get("unit") == "B":
                of_bytes.append(self)

        def update(self, n: float | None = 1) -> None:
            """More has come."""
            with lock:
                self.n += n or 0
                done = max((bar.n for bar in of_bytes), default=0)
                total = max((bar.total or 0 for bar in of_bytes), default=0)
                if total:
                    progress(f"{doing}: {_amount(done, total)}", min(done / total, 1.0))

    return Bar


def _amount(done_bytes: float, total_bytes: float) -> str:
    if total_bytes < _GB:
        return f"{done_bytes / _MB:.1f} of {total_bytes / _MB:.1f} MB"
    return f"{done_bytes / _GB:.1f} of {total_bytes / _GB:.1f} GB"
