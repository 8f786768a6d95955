"""Streams langchain-openai's first example, as its page has it: a system message and a human one."""

from langchain_openai import ChatOpenAI

from tell import MODEL, tell

llm = ChatOpenAI(model=MODEL, temperature=0, max_tokens=48, stream_usage=True)
messages = [
    ("system", "You are a helpful assistant that translates English to French. Translate the user sentence."),
    ("human", "I love programming."),
]
chunks = list(llm.stream(messages))
whole = llm.invoke(messages)
total = chunks[0]
for chunk in chunks[1:]:
    total += chunk
tell(
    [chunk.text for chunk in chunks],
    whole.text,
    usage=(total.usage_metadata or {}).get("output_tokens"),
    whole_usage=whole.usage_metadata["output_tokens"],
)
