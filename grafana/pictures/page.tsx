// Draws one dashboard with Grafana's own components, in the last version that has them on npm.
// `window.input` is the dashboard with its variables filled in, and the answers of Prometheus.
// What npm does not have (heatmap, node graph, state timeline) is drawn in drawings.tsx.

import {
  createTheme,
  type DataFrame,
  dateTime,
  type Field,
  FieldType,
  getDisplayProcessor,
  standardTransformers,
  standardTransformersRegistry,
  ThemeContext,
  type TimeRange,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';

import 'uplot/dist/uPlot.min.css';

import { Graph, Heatmap, States } from './drawings';

const { dashboard, answers, events, start, end, width, theme: mode } = (window as any).input;
const theme = createTheme({ colors: { mode } });
const IS_NARROW = width < theme.breakpoints.values.md;
const range: TimeRange = {
  from: dateTime(start * 1000),
  to: dateTime(end * 1000),
  raw: { from: dateTime(start * 1000), to: dateTime(end * 1000) },
};
const CELL = 30;
const GAP = 8;
const ROW = CELL + GAP;

standardTransformersRegistry.setInit(() =>
  ['calculateField', 'merge', 'organize'].map((id) => ({
    id,
    name: id,
    editor: () => null,
    transformation: Object.values(standardTransformers).find((each) => each.id === id)!,
  }))
);

function legend(format: string, labels: Record<string, string>): string {
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');
}

// The frames that Grafana's data source makes of an answer.
function framesOf(panel: any): DataFrame[] {
  return panel.targets.flatMap((target: any): DataFrame[] => {
    const found = answers[panel.id][target.refId];
    if (target.format === 'table') {
      const names: string[] = [...new Set<string>(found.flatMap((s: any) => Object.keys(s.metric)))];
      const value = panel.targets.length > 1 ? `Value #${target.refId}` : 'Value';
      return [
        toDataFrame({
          refId: target.refId,
          fields: [
            { name: 'Time', type: FieldType.time, values: found.map(() => end * 1000) },
            ...names.map((name) => ({
              name,
              type: FieldType.string,
              values: found.map((s: any) => s.metric[name] ?? ''),
            })),
            { name: value, type: FieldType.number, values: found.map((s: any) => Number(s.value[1])) },
          ],
        }),
      ];
    }
    return found.map((series: any) => {
      const points = series.values ?? [series.value];
      const name = target.legendFormat ? legend(target.legendFormat, series.metric) : panel.title;
      return toDataFrame({
        refId: target.refId,
        fields: [
          { name: 'Time', type: FieldType.time, values: points.map((p: any) => p[0] * 1000) },
          {
            name: 'Value',
            type: FieldType.number,
            labels: series.metric,
            config: { displayNameFromDS: name },
            values: points.map((p: any) => Number(p[1])),
          },
        ],
      });
    });
  });
}

// Field settings: the panel's, and those for the names that its overrides match.
function dress(panel: any, frames: DataFrame[]): DataFrame[] {
  const { defaults, overrides } = panel.fieldConfig;
  let series = 0;
  for (const field of frames.flatMap((frame) => frame.fields)) {
    const name = field.config.displayName ?? field.config.displayNameFromDS ?? field.name;
    const number = field.type === FieldType.number;
    const config: any = { ...field.config, ...(number ? defaults : {}) };
    config.custom = { ...(number ? defaults.custom : {}), cellOptions: { type: 'auto' }, inspect: false };
    config.displayName = name;
    delete config.links;
    for (const override of overrides) {
      if (override.matcher.options !== name) continue;
      for (const { id, value } of override.properties) {
        if (id === 'links') continue;
        if (id.startsWith('custom.')) config.custom[id.slice(7)] = value;
        else config[id] = value;
      }
    }
    field.config = config;
    field.state = { displayName: name, seriesIndex: number ? series++ : 0 };
    if (number && field.config.max === undefined) {
      field.state.range = { min: 0, max: Math.max(...field.values), delta: Math.max(...field.values) };
    }
    field.display = getDisplayProcessor({ field, theme, timeZone: 'browser' });
  }
  return frames;
}

function lines(frames: DataFrame[]): DataFrame[] {
  for (const field of frames.flatMap((frame) => frame.fields)) {
    field.config.custom = {
      drawStyle: 'line',
      lineInterpolation: 'linear',
      axisPlacement: 'auto',
      axisGridShow: true,
      scaleDistribution: { type: 'linear' },
      hideFrom: { legend: false, tooltip: false, viz: false },
      spanNulls: false,
      ...field.config.custom,
    };
  }
  return frames;
}

const values = (frames: DataFrame[]): Field[] =>
  frames.flatMap((frame) => frame.fields.filter((field) => field.type === FieldType.number));

function Body({ panel, frames, width, height }: any) {
  const first: Field | undefined = values(frames)[0];
  if (!first?.values.length && panel.type !== 'stat') {
    const place = { display: 'flex', height, alignItems: 'center', justifyContent: 'center' };
    const text = panel.fieldConfig.defaults.noValue ?? 'No data';
    return <div style={{ color: theme.colors.text.secondary, ...place }}>{text}</div>;
  }
  switch (panel.type) {
    case 'stat': {
      const last = first?.values.filter((each: number | null) => each !== null && !isNaN(each)).pop();
      const nothing = { text: panel.fieldConfig.defaults.noValue, numeric: NaN, color: theme.colors.text.primary };
      const value = last === undefined ? nothing : { ...first!.display!(last), title: undefined };
      const { colorMode, graphMode, text } = panel.options;
      return <BigValue {...{ width, height, theme, value, colorMode, graphMode, text }} />;
    }
    case 'bargauge': {
      const fields = values(frames).sort((a, b) => b.values[0] - a.values[0]);
      const most = Math.max(fields[0].values[0], 1);
      const longest = (texts: string[]) => texts.reduce((a, b) => (b.length > a.length ? b : a));
      const alignmentFactors = {
        title: longest(fields.map((field) => field.config.displayName!)),
        text: longest(fields.map((field) => field.display!(field.values[0]).text)),
      };
      const each = Math.min(height / fields.length, 30);
      return fields.map((field, number) => (
        <div key={number} style={{ height: each }}>
          <BarGauge
            {...{ width, theme, alignmentFactors }}
            height={each - 6}
            value={{ ...field.display!(field.values[0]), title: field.config.displayName }}
            field={{ ...field.config, min: 0, max: most } as any}
            display={field.display}
            text={{ titleSize: 12, valueSize: 12 }}
            orientation={panel.options.orientation}
            displayMode={panel.options.displayMode}
            namePlacement={panel.options.namePlacement}
            showUnfilled
          />
        </div>
      ));
    }
    case 'table': {
      const sort = panel.options.sortBy?.map((by: any) => ({ displayName: by.displayName, desc: by.desc }));
      return <Table data={frames[0]} initialSortBy={sort} {...{ width, height }} />;
    }
    case 'heatmap':
      return <Heatmap {...{ theme, frames, width, height, start, end }} />;
    case 'nodeGraph':
      return <Graph {...{ theme, frames, width, height }} />;
    case 'state-timeline':
      return <States {...{ theme, frames, width, height, start, end }} />;
    default:
      return (
        <TimeSeries
          frames={lines(frames)}
          timeRange={range}
          timeZone="browser"
          legend={panel.options.legend}
          {...{ width, height }}
        >
          {(config) => {
            config.addHook('draw', marked);
            return null;
          }}
        </TimeSeries>
      );
  }
}

// Dashed lines at the events, as Grafana draws its annotations.
function marked(plot: any) {
  const { ctx, bbox } = plot;
  for (const { iconColor, useValueForTime, series } of events) {
    for (const each of series) {
      const at = each.values.filter((p: any) => Number(p[1]) > 0).map((p: any) => (useValueForTime ? Number(p[1]) : p[0] * 1000));
      // Samples that follow each other are one event.
      for (const time of at.filter((t: number, n: number) => n === 0 || t - at[n - 1] > (useValueForTime ? 0 : 60_000))) {
        const x = plot.valToPos(time, 'x', true);
        if (x < bbox.left || x > bbox.left + bbox.width) continue;
        ctx.save();
        ctx.strokeStyle = theme.visualization.getColorByName(iconColor);
        ctx.setLineDash([4, 4]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.restore();
      }
    }
  }
}

// On a phone Grafana puts all panels below each other.
function arranged(panels: any[]): any[] {
  if (!IS_NARROW) return panels;
  let y = 0;
  return panels.map((panel) => {
    const gridPos = { x: 0, y, w: 24, h: panel.gridPos.h };
    y += gridPos.h;
    return { ...panel, gridPos };
  });
}

async function prepared(panel: any): Promise<DataFrame[]> {
  const changed = transformDataFrame(panel.transformations ?? [], framesOf(panel));
  return dress(panel, await firstValueFrom(changed));
}

function Placed({ panel, children }: any) {
  const { x, y, w, h } = panel.gridPos;
  const unit = (width - GAP) / 24;
  const place = { left: x * unit + GAP, top: y * ROW + GAP + 40, width: w * unit - GAP, height: h * ROW - GAP };
  return <div style={{ position: 'absolute', ...place }}>{children(place)}</div>;
}

async function main() {
  const panels = dashboard.panels.filter((panel: any) => panel.type !== 'row');
  const frames = new Map<number, DataFrame[]>();
  for (const panel of panels) frames.set(panel.id, await prepared(panel));
  const placed = arranged(dashboard.panels);
  const bottom = Math.max(...placed.map(({ gridPos }: any) => gridPos.y + gridPos.h)) * ROW + GAP + 40;
  const page = (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'absolute', top: bottom, left: 0, width, height: 2, background: '#ff00ff' }} />
      <div style={{ padding: '10px 12px', fontSize: 18 }}>{dashboard.title}</div>
      {placed.map((panel: any) => (
        <Placed key={panel.id} panel={panel}>
          {(place: any) =>
            panel.type === 'row' ? (
              <div style={{ fontSize: 16, fontWeight: 500, padding: 4 }}>⌄ {panel.title}</div>
            ) : (
              <PanelChrome title={panel.title} width={place.width} height={place.height}>
                {(width, height) => <Body {...{ panel, width, height }} frames={frames.get(panel.id)} />}
              </PanelChrome>
            )
          }
        </Placed>
      ))}
    </ThemeContext.Provider>
  );
  createRoot(document.getElementById('page')!).render(page);
}

main();
