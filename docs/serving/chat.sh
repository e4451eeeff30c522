#!/bin/sh
# The same by curl: which emotions there are, a whole answer, and one that comes piece by piece.
set -eu
url=${EMOKERNEL_URL:-http://127.0.0.1:8000}

ask() {
    curl --fail-with-body --silent --show-error --no-buffer \
        -H "Authorization: Bearer ${EMOKERNEL_API_KEY:-none}" \
        -H "Content-Type: application/json" "$@"
    echo
}

ask "$url/v1/emotions"
ask "$url/v1/completions" -d '{
    "prompt": "This morning I", "max_tokens": 12, "temperature": 0,
    "emotion": {"joy": 0.6, "surprise": 0.3}, "strength": 0.8}'
ask "$url/v1/chat/completions" -d '{
    "messages": [{"role": "user", "content": "How was the party last night?"}],
    "max_tokens": 40, "stream": true, "emotion": "anger", "strength": 0.8, "law": "add"}'
