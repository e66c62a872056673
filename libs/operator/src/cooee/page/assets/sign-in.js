// Sign in with Clerk's own form, and hand its session token to this page.
"use strict";

const form = document.getElementById("sign-in");
const button = document.getElementById("continue");
const mount = document.getElementById("clerk");
const problem = document.getElementById("problem");

function report(error) {
  problem.textContent = error?.errors?.[0]?.longMessage ?? error?.message ?? String(error);
  problem.hidden = false;
}

function show() {
  const isSignedIn = Boolean(window.Clerk.session);
  button.hidden = !isSignedIn;
  if (isSignedIn) {
    window.Clerk.unmountSignIn(mount);
  } else {
    window.Clerk.mountSignIn(mount);
  }
}

async function hand() {
  try {
    await window.Clerk.setActive({ organization: form.dataset.organisation });
    form.elements.token.value = await window.Clerk.session.getToken({ skipCache: true });
    form.submit();
  } catch (error) {
    report(error);
  }
}

window.addEventListener("load", async () => {
  try {
    await window.Clerk.load();
    window.Clerk.addListener(show);
    button.addEventListener("click", hand);
    show();
  } catch (error) {
    report(error);
  }
});
