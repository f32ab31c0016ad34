"""A chart of a table: one line per cell, the paper's figure and ours as dots."""
from matplotlib.figure import Figure

from chainer_abn.errors import one_line

PAPER, BEST, LAST = 'black', '#1f77b4', '#ff7f0e'


def draw(table, results, notes):
    """The figure.

    The axes show the range of the figures and not 0; dots, unlike bars, do not fake a ratio there.

    Args:
        table (Table)
        results (list of Result)
        notes (list of str): lines that stand under the title.
    """
    panels = {}
    for result in results:
        panels.setdefault(result.cell.on, []).append(result)
    others = {on: other_data(panel) for on, panel in panels.items()}
    for on in filter(others.get, panels):       # there the paper's figures cannot stand beside ours
        panels[on] = [result for result in panels[on] if result.runs]
    heights = [len(panel) + 2.5 for panel in panels.values()]
    figure = Figure((9, 0.27 * sum(heights) + 0.22 * len(notes) + 1.2), layout='constrained')
    figure.suptitle('\n'.join(map(plain, [table.title, *notes])), fontsize=9, wrap=True)
    all_axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (on, panel) in zip(all_axes, panels.items(), strict=True):
        draw_panel(axes, table, on, panel, others[on])
    found = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(found.values(), found.keys(), loc='outside lower center', ncols=3, fontsize=8)
    return figure


def plain(text):
    """Without what a figure cannot show; two $ would be a formula."""
    return one_line(text).replace('$', r'\$')


def other_data(panel):
    """Names of the data sets that were trained on instead of the paper's."""
    return sorted({run.arguments['dataset'] for result in panel for run in result.runs
                   if run.arguments['dataset'] != result.cell.training.dataset})


def draw_panel(axes, table, on, panel, others):
    if others:
        on = plain(f'{", ".join(others)} instead of {on}')
    one_column = len({result.cell.column for result in panel}) == 1
    labels = [result.cell.row + f'  {result.cell.column}' * (not one_column) for result in panel]
    papers = [None if others or result.cell.paper is None else (result.cell.paper, 0) for result in panel]
    kinds = (('paper', PAPER, 'D', 0.0, papers),
             ('ours, best epoch ± deviation', BEST, 'o', -0.18, [result.best for result in panel]),
             ('ours, last epoch ± deviation', LAST, 's', 0.18, [result.last for result in panel]))
    for name, colour, marker, shift, scores in kinds:
        dots = [(score[0], i + shift, score[1] or 0) for i, score in enumerate(scores) if score]
        if dots:
            x, y, deviation = zip(*dots, strict=True)
            axes.errorbar(x, y, xerr=None if name == 'paper' else deviation, fmt=marker, color=colour,
                          markersize=5, capsize=3, label=name)
    axes.set_yticks(range(len(panel)), labels, fontsize=8)
    axes.set_ylim(len(panel) - 0.5, -0.5)
    axes.grid(axis='x', alpha=0.4)
    axes.grid(axis='y', alpha=0.15)
    axes.tick_params(axis='x', labelsize=8)
    low, high = axes.get_xlim()
    shown = f'; the axis shows {low:.1f} to {high:.1f} only' * axes.has_data()
    axes.set_xlabel(f'{table.measure} on {on}, %{shown}', fontsize=8)
