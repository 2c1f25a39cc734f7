"""Where the browser wheel runs: Node, Chromium, and the folder that a browser is served."""
