"""Prompts with tools, their calls and results."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")


from agent.engine.contract import ConversationSettings
from agent.engine.gemma.prompts import ClipRef, PromptRenderer, SoftToken
from agent.engine.items import Role, ToolCall, ToolResult
from agent.errors import Unsupported
from tests.helpers.gemma_chat import STRICT_TEMPLATE, clip_samples, published_checkpoint
from tests.helpers.gemma_prompts import LAMP, PLAIN, RENDERER, assistant, text_of, tools, user


def test_tools_as_the_template_writes_them():
    items = [
        user("Light!"),
        tools(ToolCall("1", "set_lamp", '{"on": true}'), ToolCall("2", "beep", "loud")),
        tools(ToolResult("1", '{"done": true}'), role=Role.TOOL),
        tools(ToolResult("2", "beeped"), role=Role.TOOL),
    ]
    asked = ConversationSettings(tools=(LAMP,))
    declared = (
        '<bos><|turn>system\n<|tool>declaration:set_lamp{description:<|"|>Switch the lamp.<|"|>,'
        'parameters:{properties:{on:{type:<|"|>boolean<|"|>}},type:<|"|>object<|"|>}}<tool|><turn|>'
        "\n<|turn>user\nLight!<turn|>\n<|turn>model\n"
        "<|tool_call>call:set_lamp{on:true}<tool_call|><|tool_call>call:beep{loud}<tool_call|>"
    )
    responses = (
        "<|tool_response>response:set_lamp{done:true}<tool_response|>"
        '<|tool_response>response:beep{value:<|"|>beeped<|"|>}<tool_response|>'
    )
    thought = "<|channel>thought\n<channel|>"
    assert text_of(RENDERER.render(asked, items)) == declared + responses + thought
    # The same turn goes on after the responses.
    said = [*items, assistant("It is on."), user("Thanks.")]
    assert text_of(RENDERER.render(asked, said)) == (
        f"{declared}{responses}It is on.<turn|>\n<|turn>user\nThanks.<turn|>\n"
        f"<|turn>model\n{thought}"
    )
    # Who speaks while a tool works does not part the call from its result.
    between = [*items[:2], user("Well?"), *items[2:]]
    assert text_of(RENDERER.render(asked, between)).startswith(declared + responses)


def test_tools_as_the_processor_writes_them(processor):
    items = [
        user("Light!", ClipRef("a", 2)),
        tools(ToolCall("1", "set_lamp", '{"on": true, "rooms": ["hall", 2]}')),
        tools(ToolResult("1", "done"), role=Role.TOOL),
        assistant("It is on."),
        user(ClipRef("b", 3)),
    ]
    call = {"name": "set_lamp", "arguments": {"on": True, "rooms": ["hall", 2]}}
    audio = [{"type": "audio", "audio": clip_samples(tokens)} for tokens in (2, 3)]
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [audio[0], {"type": "text", "text": "Light!"}]},
        {
            "role": "assistant",
            "tool_calls": [{"type": "function", "function": call}],
            "tool_responses": [{"name": "set_lamp", "response": "done"}],
            "content": "It is on.",
        },
        {"role": "user", "content": [audio[1]]},
    ]
    expected = processor.apply_chat_template(
        messages,
        tools=[{"type": "function", "function": {k: v for k, v in LAMP.items() if k != "type"}}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"][0]
    prompt = RENDERER.render(ConversationSettings("Be kind.", (LAMP,)), items)
    plain = [RENDERER.audio_id if isinstance(token, SoftToken) else token for token in prompt]
    assert plain == list(expected)


def test_results_as_messages_of_their_own():
    template = (
        "{{ bos_token }}{% for m in messages %}{{ '<|turn>' + m['role'] + ':' }}"
        "{% for c in m['tool_calls'] or [] %}{{ c['function']['name'] }}({{ c['id'] }})"
        "{% endfor %}{{ m['content'] }}"
        "{{ '=' + m['tool_call_id'] if m['tool_call_id'] }}{{ '<turn|>' }}{% endfor %}"
    )
    renderer = PromptRenderer(published_checkpoint(template))
    items = [
        user("Light!"),
        tools(ToolCall("1", "set_lamp", "{}")),
        user("Well?"),
        tools(ToolResult("1", "done"), role=Role.TOOL),
        assistant("It is on."),
    ]
    assert text_of(renderer.render(PLAIN, items)) == (
        "<bos><|turn>user:Light!<turn|><|turn>assistant:set_lamp(1)<turn|>"
        "<|turn>tool:done=1<turn|><|turn>user:Well?<turn|><|turn>assistant:It is on.<turn|>"
    )


def test_a_result_without_its_call_is_text():
    prompt = RENDERER.render(PLAIN, [tools(ToolResult("gone", "42"), role=Role.TOOL)])
    assert "<|turn>user\n[Result: 42]<turn|>" in text_of(prompt)


def test_a_template_without_tools_says_so():
    renderer = PromptRenderer(published_checkpoint(STRICT_TEMPLATE))
    with pytest.raises(Unsupported, match="template of a/checkpoint has no place for tools"):
        renderer.render(ConversationSettings(tools=(LAMP,)), [user("a")])
    with pytest.raises(Unsupported, match="no place for tool calls"):
        renderer.render(PLAIN, [user("a"), tools(ToolCall("1", "set_lamp", "{}"))])
