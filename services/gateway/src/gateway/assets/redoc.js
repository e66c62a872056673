// ReDoc has a light theme only. These colours replace its own when the system has the dark scheme.
const DARK = {
  colors: {
    primary: { main: "#8ab4f8" },
    success: { main: "#81c995" },
    warning: { main: "#fdd663", contrastText: "#1c2022" },
    error: { main: "#f28b82" },
    text: { primary: "#e3e6e8", secondary: "#b4bcc1" },
    border: { dark: "#4a5358", light: "#3a4246" },
    responses: {
      success: { color: "#81c995", backgroundColor: "#22332a" },
      error: { color: "#f28b82", backgroundColor: "#3a2626" },
      redirect: { color: "#fdd663", backgroundColor: "#38321f" },
      info: { color: "#8ab4f8", backgroundColor: "#222d3c" },
    },
  },
  schema: { nestedBackground: "#262c2f", linesColor: "#6b767c", typeNameColor: "#b4bcc1", typeTitleColor: "#8ab4f8" },
  typography: { code: { color: "#ffa198", backgroundColor: "#2d3438" }, links: { color: "#8ab4f8", visited: "#8ab4f8" } },
  sidebar: { backgroundColor: "#23282b", textColor: "#e3e6e8" },
  rightPanel: { backgroundColor: "#14181a" },
};

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const page = document.getElementById("page");
Redoc.init(page.dataset.document, { theme: dark.matches ? DARK : {}, hideDownloadButtons: false }, page);
dark.addEventListener("change", () => window.location.reload()); // a theme cannot be changed after the start
