import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_client.releases.inference import InferenceSession, SessionCache, open_session
from fedge.errors import InputError, VerificationError


def test_the_session_computes_what_the_model_says(make_release, queries, release_math):
    release = make_release(scale=1.5)
    predictions = InferenceSession(release).predict(list(queries))
    np.testing.assert_allclose(predictions.logits, release_math(queries, release.weights()), atol=1e-6)
    assert predictions.embedding.shape == (64, 3)
    assert predictions.logits.dtype == predictions.embedding.dtype == np.float32


def test_a_batch_over_the_run_limit_gives_the_rows_of_single_queries(make_release, release_math):
    many = np.random.default_rng(1).random((600, 4), dtype=np.float32)
    session = InferenceSession(make_release())
    whole = session.predict(list(many))
    assert whole.logits.shape == (600, 2)
    for index in (0, 255, 256, 599):
        np.testing.assert_allclose(session.predict([many[index]]).logits[0], whole.logits[index], atol=1e-6)


def test_no_queries_give_empty_arrays_of_the_right_width(make_release):
    predictions = InferenceSession(make_release()).predict([])
    assert predictions.logits.shape == (0, 2)
    assert predictions.embedding.shape == (0, 3)


def test_the_self_test_passes_on_published_logits_and_fails_on_others(make_release):
    InferenceSession(make_release()).self_test()
    InferenceSession(make_release(shift=0.005)).self_test()
    with pytest.raises(VerificationError, match="self-test"):
        InferenceSession(make_release(shift=0.05)).self_test()


def test_a_query_of_another_form_is_refused(make_release):
    session = InferenceSession(make_release())
    with pytest.raises(InputError):
        session.predict(["turn on the light"])
    with pytest.raises(InputError):
        session.predict([np.zeros(5, dtype=np.float32)])


def test_equal_bytes_share_one_session_and_old_ones_go(make_release):
    cache = SessionCache(max_sessions=2)
    models = [make_release(scale=scale).files["infer.onnx"] for scale in (1.0, 2.0, 3.0)]
    first = cache.load(models[0])
    assert cache.load(bytes(bytearray(models[0]))) is first
    cache.load(models[1])
    cache.load(models[2])
    assert cache.load(models[0]) is not first


def test_a_file_that_the_checks_refuse_never_reaches_onnxruntime(monkeypatch):
    node = helper.make_node("If", ["c"], ["y"], then_branch=_branch("a"), else_branch=_branch("b"))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: pytest.fail("the file was loaded"))
    with pytest.raises(VerificationError):
        open_session(model)


def test_what_onnxruntime_cannot_load_is_a_verification_error():
    # Passes the static checks; the shapes do not fit, which only a runtime finds out.
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    with pytest.raises(VerificationError, match="onnxruntime cannot load"):
        open_session(model.SerializeToString())


def _branch(name: str):
    constant = helper.make_tensor(name, TensorProto.FLOAT, [1], [0.0])
    return helper.make_graph(
        [helper.make_node("Constant", [], [name], value=constant)],
        name,
        [],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])],
    )
