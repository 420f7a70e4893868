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

const { dashboard, answers, start, end, width } = (window as any).input;
const theme = createTheme({ colors: { mode: 'light' } });
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
  if (first === undefined) {
    return <div style={{ color: theme.colors.text.secondary, padding: 16 }}>No data</div>;
  }
  switch (panel.type) {
    case 'stat': {
      const last = first.values[first.values.length - 1];
      const sparkline = panel.options.graphMode === 'area' ? { y: first, x: frames[0].fields[0] } : undefined;
      const value = { ...first.display!(last), title: undefined };
      const { colorMode, graphMode } = panel.options;
      return <BigValue {...{ width, height, theme, value, sparkline, colorMode, graphMode }} />;
    }
    case 'bargauge': {
      const fields = values(frames).sort((a, b) => b.values[0] - a.values[0]);
      const most = fields[0].values[0];
      const each = Math.min(height / fields.length, 30);
      return fields.map((field, number) => (
        <div key={number} style={{ height: each }}>
          <BarGauge
            {...{ width, theme }}
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
        />
      );
  }
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
  const page = (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ padding: '10px 12px', fontSize: 18 }}>{dashboard.title}</div>
      {dashboard.panels.map((panel: any) => (
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
