for (const pre of document.querySelectorAll("pre.command")) {
  if (location.protocol.startsWith("http")) {
    const rest = location.origin.slice("http".length);
    pre.textContent = pre.textContent.replace(/(http|ws):\/\/localhost:3000/, "$1" + rest);
  }
  if (navigator.clipboard) {
    const button = document.createElement("button");
    button.textContent = "Copy";
    button.onclick = async () => {
      await navigator.clipboard.writeText(pre.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    };
    pre.after(button);
  }
}
