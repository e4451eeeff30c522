// The same in JavaScript, in Node from 18 on and in browsers, without a package.
const { EMOKERNEL_URL, EMOKERNEL_API_KEY } = globalThis.process?.env ?? {};
const url = EMOKERNEL_URL ?? "http://127.0.0.1:8000";

// The events of a streamed answer, as objects; an Error with the server's sentence if it refuses.
async function* events(path, body, signal) {
  const response = await fetch(url + path, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      ...(EMOKERNEL_API_KEY && { Authorization: `Bearer ${EMOKERNEL_API_KEY}` }),
    },
    body: JSON.stringify({ ...body, stream: true }),
    signal, // an AbortController's: aborting hangs up, and the server stops at once
  });
  if (!response.ok) throw new Error((await response.json()).error.message);
  const decoder = new TextDecoder();
  let rest = "";
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

const question = {
  messages: [{ role: "user", content: "How was the party last night?" }],
  max_tokens: 40,
};
for (const emotion of [null, "joy", { valence: -0.6, arousal: 0.7 }]) {
  let text = "";
  for await (const { choices, error } of events("/v1/chat/completions", { ...question, emotion })) {
    if (error) throw new Error(error.message);
    text += choices[0]?.delta.content ?? "";
  }
  console.log(`${JSON.stringify(emotion)}: ${text}`);
}
