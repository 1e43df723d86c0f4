"""The OpenAI-compatible part with the real client library, against the agent's own server."""

import base64
import json

import numpy as np
import openai
import pytest

USER = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "turn off the lights"}]


@pytest.fixture(scope="module")
def client(local):
    with openai.OpenAI(base_url=f"{local.url}/v1", api_key="none", max_retries=2) as client:
        yield client


def test_the_three_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["fedge/auto", "fedge/local-only", "fedge/central"]
    assert client.models.retrieve("fedge/auto").owned_by == "fedge"


@pytest.mark.parametrize(
    ("model", "answered_by"), [("fedge/auto", "device"), ("fedge/local-only", "device"), ("fedge/central", "central")]
)
def test_a_model_is_a_way_to_ask(client, local, model, answered_by):
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=USER, temperature=0.2, max_completion_tokens=16, extra_headers={"x-request-id": f"m-{model}"}
    )
    completion = raw.parse()
    assert raw.headers["x-fedge-answered-by"] == answered_by
    assert float(raw.headers["x-fedge-usd"]) >= 0
    assert completion._request_id == f"m-{model}"
    told = completion.model_extra["fedge"]
    assert told["answered_by"] == answered_by and told["answer"] == completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop" and completion.choices[0].message.role == "assistant"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert completion.choices[0].message.content == local.ask("turn off the lights", mode=model.split("/")[1])["answer"]


def test_parts_of_text_and_max_tokens_are_taken(client):
    content = [{"type": "text", "text": "turn off"}, {"type": "text", "text": "the lights"}]
    completion = client.chat.completions.create(
        model="fedge/auto", messages=[{"role": "user", "content": content}], max_tokens=5, n=1
    )
    assert completion.choices[0].message.content.startswith("label-")


def test_a_stream_begins_with_the_role_and_ends_with_the_usage(client):
    stream = client.chat.completions.create(
        model="fedge/auto", messages=USER, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("label-")
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-2].model_extra["fedge"]["answer"] == text
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 1
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_ends_with_done_and_has_no_usage_unless_asked(local):
    status, body, headers = local.call(
        "POST", "/v1/chat/completions", {"model": "fedge/auto", "messages": USER, "stream": True}
    )
    events = [line for line in body["text"].split("\n\n") if line]
    assert status == 200 and headers["content-type"].startswith("text/event-stream") and "x-fedge-usd" in headers
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert all(chunk["object"] == "chat.completion.chunk" and "usage" not in chunk for chunk in chunks)


def test_embeddings_are_unit_vectors_in_either_form(client, local):
    texts = ["turn off the lights", "what is the weather"]
    decoded = client.embeddings.create(model="fedge/auto", input=texts)  # the library asks for base64 by itself
    numbers = client.embeddings.create(model="fedge/auto", input=texts, encoding_format="float")
    ours = local.process.agent.embed(texts)
    for index, row in enumerate(ours / np.linalg.norm(ours, axis=1, keepdims=True)):
        np.testing.assert_allclose(decoded.data[index].embedding, row, atol=1e-6)
        np.testing.assert_allclose(numbers.data[index].embedding, row, atol=1e-6)
    assert [entry.index for entry in decoded.data] == [0, 1]
    raw = local.call("POST", "/v1/embeddings", {"model": "fedge/auto", "input": texts[0], "encoding_format": "base64"})[1]
    vector = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(vector, decoded.data[0].embedding, atol=1e-6)


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_the_remedy(client, tokens):
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False") as caught:
        client.embeddings.create(model="fedge/auto", input=tokens)
    assert (caught.value.code, caught.value.param) == ("token_ids", "input")


def test_errors_are_the_librarys_own(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=USER)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fedge/auto", messages=[])
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="fedge/auto", messages=[{"role": "user", "content": "  "}])
    assert caught.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="fedge/central", input="text")
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="fedge/auto", prompt="x")


def test_where_nobody_can_answer_the_library_does_not_try_again(make_world):
    world = make_world()
    with world.central():
        pass  # its port is nobody's now
    home = world.home(release=False, settings=("central_timeout_s = 0.3",))
    with world.agent(home) as api, openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=2) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="fedge/auto", messages=USER)
        assert caught.value.status_code == 503 and caught.value.code == "no_answer"
        assert sum(v for k, v in api.process.store.counters().items() if k.startswith("answered.")) == 1
        status, health, _ = api.call("GET", "/health")
        assert status == 503 and health["live"] and not health["ready"]
        assert {"release", "central"} <= health["missing"].keys()
