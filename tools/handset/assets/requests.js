// Requests to the handset's own API (tools/handset/own_api.py).

export async function call(method, path, body) {
  const answer = await fetch(path, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.status === 202 || answer.status === 204 ? null : answer.json();
}

export const PROVIDERS = await call("GET", "/api/providers/"); // provider → the name that is shown
