"""A phone on the same network: https with a certificate that was made as the guide says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Error, expect

from agent.client import connect
from agent.errors import ConnectionFailed
from tests.embedding.conftest import KEY, Sentence
from tests.helpers.browser import chromium, collect_complaints, take_picture
from tests.helpers.certificate import Certificate, make_certificate
from tests.helpers.network import own_address
from tests.helpers.server import RunningServer, running_server
from tests.helpers.wer import word_errors

pytestmark = [pytest.mark.models, pytest.mark.slow]


@pytest.fixture(scope="module")
def address() -> str:
    """This machine's own on its network."""
    return own_address()


@pytest.fixture(scope="module")
def certificate(address: str, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), address, "localhost")


@pytest.fixture(scope="module")
def tls_server(
    address: str, certificate: Certificate, key_file: Path
) -> Iterator[tuple[str, RunningServer]]:
    """The server for all of the network, and its address there."""
    with running_server(
        "--host", "0.0.0.0", "--api-key-file", str(key_file),
        "--tls-cert-file", str(certificate.cert), "--tls-key-file", str(certificate.key),
    ) as server:  # fmt: skip
        assert server.url.startswith("https://127.0.0.1:")
        yield f"https://{address}:{server.url.rpartition(':')[2]}", server


@pytest.mark.browser
@pytest.mark.asyncio(loop_scope="session")
async def test_a_phone_warns_once_and_then_has_a_microphone(
    tls_server: tuple[str, RunningServer], sentences: list[Sentence]
) -> None:
    url, _ = tls_server
    async with chromium(sentences[0].path) as browser:
        stranger = await browser.new_page()
        with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
            await stranger.goto(url)

        phone = await browser.new_context(
            ignore_https_errors=True,  # "proceed anyway"
            viewport={"width": 390, "height": 780}, is_mobile=True, has_touch=True,
        )  # fmt: skip
        page = await phone.new_page()
        complaints = collect_complaints(page)
        await page.goto(url)
        await page.get_by_label("Server key").fill(KEY)
        await page.get_by_label("Server key").press("Enter")
        await expect(page.get_by_text("Connected", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Start talking").tap()
        words = page.locator(".entry.user .text")
        await expect(words.last).to_have_text(re.compile(r"\w"))
        await expect(page.locator(".entry.agent .text").last).to_have_text(re.compile(r"\w"))
        await take_picture(page, "example-phone")
        heard = " ".join(await words.all_text_contents())
        assert word_errors(sentences[0].text, heard).rate <= 0.35
        assert complaints == []


async def test_python_trusts_the_certificate_once_it_is_named(
    tls_server: tuple[str, RunningServer],
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, _ = tls_server
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(ConnectionFailed, match=r"SSL_CERT_FILE=cert\.pem"):
        async with connect(url, api_key=KEY):
            pass
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.cert))
    async with connect(url, api_key=KEY) as session:
        assert session.settings["type"] == "realtime"
