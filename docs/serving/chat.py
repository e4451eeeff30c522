"""One question, three moods, by OpenAI's own client: pip install openai"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("EMOKERNEL_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("EMOKERNEL_API_KEY", "none"),
)
model = client.models.list().data[0].id
for feeling in (
    {"emotion": None},
    {"emotion": "joy", "strength": 0.8},
    {"emotion": {"valence": -0.6, "arousal": 0.7}, "positions": "generated"},
):
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "How was the party last night?"}],
        max_tokens=40,
        temperature=0.7,
        seed=1,
        stream=True,
        extra_body=feeling,
    )
    print(feeling["emotion"], end=": ", flush=True)
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()
