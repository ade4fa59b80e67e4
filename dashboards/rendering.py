"""Panels as Grafana writes them down."""

import json
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from dashboards.panels import Dashboard, Kind, Level, Panel, Query, Unit

TAG: Final = "firstline"
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
_GOOD: Final = "green"
_WARN: Final = "#EAB839"
_BAD: Final = "red"


def rendered(dashboard: Dashboard, *, docs_url: str | None) -> str:
    """Grafana's JSON.

    Args:
        docs_url: where the documentation is served, without a slash at its end; None for no links to it.
    """
    builder = (
        builders.Dashboard(dashboard.title)
        .uid(f"firstline-{dashboard.name}")
        .description(dashboard.about)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time(dashboard.since, "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .annotation(_alerts())
        .link(builders.DashboardLink("firstline").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
              .as_dropdown(True).keep_time(True).include_vars(True))
    )  # fmt: skip
    if docs_url is not None:
        guide = builders.DashboardLink("Documentation").type(models.DashboardLinkType.LINK).icon("doc")
        builder = builder.link(guide.url(f"{docs_url}/guides/dashboards/").target_blank(True))
    for variable in _variables():
        builder = builder.with_variable(variable)
    number = 0
    for row in dashboard.rows:
        builder = builder.with_row(builders.Row(row.title).id(number := number + 1))
        for panel in row.panels:
            drawn = _drawn(panel, docs_url=docs_url).id(number := number + 1)
            builder = builder.with_panel(drawn.datasource(SOURCE).span(panel.width).height(panel.height))
    return json.dumps(json.loads(JSONEncoder(sort_keys=True).encode(builder.build())), indent=2, sort_keys=True) + "\n"


def _variables() -> list[Any]:
    every = models.VariableOption(text="All", value="$__all", selected=True)

    def choice(name: str, label: str, query: str) -> Any:
        return (
            builders.QueryVariable(name)
            .label(label)
            .datasource(SOURCE)
            .query(query)
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .current(every)
        )

    return [
        builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        choice("job", "Job", "label_values(firstline_build_info, job)"),
        choice("instance", "Instance", 'label_values(firstline_build_info{job=~"$job"}, instance)'),
    ]


def _alerts() -> Any:
    return (
        builders.AnnotationQuery()
        .name("Alerts")
        .datasource(SOURCE)
        .enable(True)
        .icon_color(_BAD)
        .expr('ALERTS{alertname=~"Firstline.*", alertstate="firing"}')
    )


def _drawn(panel: Panel, *, docs_url: str | None) -> Any:
    make = {
        Kind.GRAPH: _graph,
        Kind.NUMBER: _number,
        Kind.BARS: _bars,
        Kind.HEAT: _heat,
        Kind.STATES: _states,
        Kind.TABLE: _table,
    }[panel.kind]
    about = panel.about
    builder = make(panel)
    if panel.page is not None and docs_url is None:
        about += f" What to do: docs/{panel.page}.md."
    elif panel.page is not None:
        link = builders.DashboardLink("What to do").type(models.DashboardLinkType.LINK).target_blank(True)
        builder = builder.links([link.url(f"{docs_url}/{panel.page}/")])
    builder = builder.title(panel.title).description(about)
    for place, query in enumerate(panel.queries):
        builder = builder.with_target(_target(query, panel).ref_id(chr(ord("A") + place)))
    return builder


def _target(query: Query, panel: Panel) -> Any:
    target = prometheus.Dataquery().datasource(SOURCE).expr(query.text).legend_format(query.legend)
    # What is shown as one value covers the whole range or is of now; a number has a small graph behind it.
    target = target.instant() if panel.kind in (Kind.BARS, Kind.TABLE) else target.range()
    if query.buckets:
        return target.format(prometheus_models.PromQueryFormat.HEATMAP)
    if panel.kind is Kind.TABLE:
        return target.format(prometheus_models.PromQueryFormat.TABLE)
    return target


def _graph(panel: Panel) -> Any:
    calcs = ["mean", "max", "lastNotNull"]
    builder = (
        timeseries.Panel()
        .unit(panel.unit.value)
        .min(0)
        .line_width(1)
        .fill_opacity(30 if panel.stacked else 10)
        .show_points(common_models.VisibilityMode.NEVER)
        .thresholds(_steps(panel.level))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .calcs(calcs)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if panel.stacked:
        builder = builder.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if panel.most is not None:
        builder = builder.max(panel.most)
    if panel.level != Level():
        mode = common_models.GraphThresholdsStyleMode.DASHED
        builder = builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(mode))
    return builder


def _number(panel: Panel) -> Any:
    builder = (
        stat.Panel()
        .unit(panel.unit.value)
        .thresholds(_steps(panel.level))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .text_mode(common_models.BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("nothing yet")
    )
    if panel.decimals is not None:
        builder = builder.decimals(panel.decimals)
    return builder


def _bars(panel: Panel) -> Any:
    builder = (
        bargauge.Panel()
        .unit(panel.unit.value)
        .min(0)
        .thresholds(_steps(panel.level))
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return builder.max(panel.most) if panel.most is not None else builder


def _heat(panel: Panel) -> Any:
    return (
        heatmap.Panel()
        .unit(Unit.COUNT.value)
        .y_axis(heatmap.YAxisConfig().unit(panel.unit.value))
        .color(heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))
        .show_legend()
    )


def _states(panel: Panel) -> Any:
    shown = {
        str(value): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, text, color) in enumerate(panel.names)
    }
    return (
        statetimeline.Panel()
        .unit(panel.unit.value)
        .mappings([models.ValueMap(options=shown)])
        .thresholds(_steps(panel.level))
        .merge_values(True)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
    )


def _table(panel: Panel) -> Any:
    names = dict(panel.columns)
    organised = models.DataTransformerConfig(
        id_val="organize",
        options={
            "includeByName": dict.fromkeys(names, True),
            "indexByName": {name: place for place, name in enumerate(names)},
            "renameByName": names,
        },
    )
    return table.Panel().unit(panel.unit.value).with_transformation(organised)


def _steps(level: Level) -> Any:
    """Colours by value, the lowest first."""
    bounds = [(level.warn, _WARN), (level.alarm, _BAD)]
    if level.below:
        given = sorted((bound, color) for bound, color in bounds if bound is not None)
        colors = [color for _, color in given] + [_GOOD]
        values: list[float | None] = [None, *(bound for bound, _ in given)]
    else:
        given = [(bound, color) for bound, color in bounds if bound is not None]
        colors = [_GOOD, *(color for _, color in given)]
        values = [None, *(bound for bound, _ in given)]
    steps = [models.Threshold(value=value, color=color) for value, color in zip(values, colors, strict=True)]
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
