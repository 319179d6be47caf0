"""Opening checkpoints, and refusing those that cannot hear."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from agent.engine.gemma.checkpoint import choose_device, choose_dtype, open_checkpoint  # noqa: E402
from agent.errors import ConfigError, ModelStoreError, Unsupported  # noqa: E402
from tests.helpers.tiny_gemma import save_tiny_gemma  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_gemma(tmp_path_factory.mktemp("tiny"))


def test_everything_comes_from_the_folder(folder):
    checkpoint = open_checkpoint(str(folder), device="cpu", dtype="float32")
    assert checkpoint.dtype == torch.float32
    assert checkpoint.mel.frame_samples == 320
    assert checkpoint.mel.bins == 128
    prompt = checkpoint.tokenizer.apply_chat_template(
        [{"role": "user", "content": [{"type": "audio"}]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    assert prompt == "<bos><|turn>user\n<|audio|><turn|>\n<|turn>model\n"


def test_dtype_is_settable(folder):
    assert open_checkpoint(str(folder), device="cpu").dtype == torch.bfloat16


def test_a_checkpoint_without_audio_says_which_hear(tmp_path):
    save_tiny_gemma(tmp_path, audio=False)
    with pytest.raises(Unsupported, match=r"no audio tower.*E2B and E4B hear.*26B A4B and 31B"):
        open_checkpoint(str(tmp_path), device="cpu")


@pytest.mark.parametrize("kind", ["llama", "gemma4_unified"])
def test_another_model_is_refused(tmp_path, kind):
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    with pytest.raises(Unsupported, match=rf"{kind} checkpoint.*E2B and E4B hear.*12B does not"):
        open_checkpoint(str(tmp_path), device="cpu")


def test_a_missing_folder_and_a_corrupt_file(tmp_path):
    with pytest.raises(ModelStoreError, match="cannot read"):
        open_checkpoint(str(tmp_path / "none"), device="cpu")
    save_tiny_gemma(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelStoreError, match=str(tmp_path)):
        open_checkpoint(str(tmp_path), device="cpu")


def test_choices():
    assert choose_dtype() is torch.bfloat16
    with pytest.raises(ConfigError, match="float8"):
        choose_dtype("float8")
    if not torch.cuda.is_available():
        assert choose_device().type == "cpu"
        with pytest.raises(ConfigError, match="no usable GPU"):
            choose_device("cuda:0")
