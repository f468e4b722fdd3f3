"""A run while it trains, and afterwards: `follow` (what the page's chart is sent), `curves` (the
log as curves), `diagnosis` (levelled off, memorising, …), `loss_plot`, `run_page`."""
