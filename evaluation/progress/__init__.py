"""A run while it trains, and afterwards: `follow` (events for the chart on the page), `curves` (the
log as curves), `diagnosis` (levelled off, memorising, …), `loss_plot`, `run_page`."""
