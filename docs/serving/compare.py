"""Two sides of one prompt, one of which changes its mood in mid-sentence: pip install httpx"""

import json
import os

import httpx

client = httpx.Client(
    base_url=os.environ.get("EMOKERNEL_URL", "http://127.0.0.1:8000"),
    headers={"Authorization": f"Bearer {os.environ.get('EMOKERNEL_API_KEY', 'none')}"},
    timeout=120,
)
question = {
    "prompt": "How was the party last night?",
    "emotions": [None, "joy"],  # both sides have the same random numbers
    "seed": 1,
    "max_tokens": 60,
    "temperature": 0.7,
}
sides, token, pieces = ["", ""], "", 0
with client.stream("POST", "/v1/emotions/compare", json=question) as response:
    if response.is_error:
        raise SystemExit(json.loads(response.read())["error"]["message"])
    for line in response.iter_lines():
        if not line.startswith("data:") or line.endswith("[DONE]"):
            continue
        event = json.loads(line.removeprefix("data:"))
        if event["type"] == "start":
            token = event["stream"]
        elif event["type"] == "text":
            sides[event["side"]] += event["text"]
            pieces += 1
            if pieces == 8:  # the second side: from joy to anger, from the next token on
                moved = client.post(
                    f"/v1/emotions/streams/{token}", json={"emotions": [None, "anger"]}
                )
                moved.raise_for_status()
        elif event["type"] == "changed":
            sides[1] += " [anger] "
        elif event["type"] == "error":
            raise SystemExit(event["message"])
print(*sides, sep="\n---\n")
