"""The progress bar of ComfyUI's pages."""

from kontext.trainer import host


def test_a_fast_loop_moves_the_bar_seldom_and_to_its_end():
    """Nodes 2.0 draw a node anew at every movement: 500 in a second made the page stutter."""
    moves: list[int] = []
    host.watched(lambda value, total, preview, node_id=None: moves.append(value))
    try:
        progress = host.Progress(500)
        for step in range(1, 501):
            progress.update(step)
    finally:
        host.watched(None)
    assert moves[0] == 1 and moves[-1] == 500 and len(moves) < 50
