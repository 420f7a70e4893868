// In the manner of Grafana's panels of the same name, whose code is not on npm.

import { type DataFrame, getValueFormat, type GrafanaTheme2 } from '@grafana/data';
import React from 'react';

interface Drawing {
  theme: GrafanaTheme2;
  frames: DataFrame[];
  width: number;
  height: number;
}

interface OverTime extends Drawing {
  start: number;
  end: number;
}

const LEFT = 62;
const BELOW = 22;

function shown(unit: string, value: number): string {
  const { text, suffix } = getValueFormat(unit)(value, unit !== 's' && value < 10 ? 1 : undefined);
  return text + (suffix ?? '');
}

function Clock({ theme, width, height, start, end }: Omit<OverTime, 'frames'>) {
  const step = [60, 120, 300, 600].find((each) => (end - start) / each <= 6) ?? 1200;
  const ticks = [];
  for (let at = Math.ceil(start / step) * step; at < end - (end - start) / 20; at += step) ticks.push(at);
  return (
    <>
      {ticks.map((at) => (
        <text
          key={at}
          x={LEFT + ((at - start) / (end - start)) * (width - LEFT)}
          y={height - 4}
          fill={theme.colors.text.primary}
          fontSize={12}
          textAnchor="middle"
        >
          {new Date(at * 1000).toTimeString().slice(0, 5)}
        </text>
      ))}
    </>
  );
}

export function Heatmap(props: OverTime) {
  const { theme, frames, width, height, start, end } = props;
  const bound = (frame: DataFrame) => Number(frame.fields[1].labels!.le.replace('+Inf', 'Infinity'));
  const buckets = [...frames].sort((a, b) => bound(a) - bound(b));
  const times = [...new Set(buckets.flatMap((frame) => frame.fields[0].values as number[]))].sort();
  const at = (frame: DataFrame | undefined, time: number) => {
    const index = frame ? frame.fields[0].values.indexOf(time) : -1;
    return index < 0 ? 0 : frame!.fields[1].values[index];
  };
  // Prometheus' buckets hold those below them, too.
  const counts = buckets.map((frame, row) => times.map((t) => at(frame, t) - at(buckets[row - 1], t)));
  const used = counts.flatMap((row, index) => (row.some((count) => count > 0.01) ? [index] : []));
  const rows = counts.slice(used[0], used[used.length - 1] + 1);
  const most = Math.max(...rows.flat());
  const tall = (height - BELOW - 8) / rows.length;
  const x = (time: number) => LEFT + ((time / 1000 - start) / (end - start)) * (width - LEFT);
  const wide = x(times[1]) - x(times[0]);
  // Few are near the background, in both themes.
  const shade = (share: number) => `hsl(${35 - 20 * share}, 90%, ${theme.isDark ? 12 + 48 * share : 92 - 52 * share}%)`;
  return (
    <svg width={width} height={height}>
      {rows.map((row, number) => {
        const y = height - BELOW - (number + 1) * tall;
        const name = bound(buckets[used[0] + number]);
        return (
          <g key={number}>
            <text x={LEFT - 6} y={y + 5} fill={theme.colors.text.primary} fontSize={12} textAnchor="end">
              {name === Infinity ? '+Inf' : shown('s', name)}
            </text>
            {row.map((count, column) =>
              count > 0.01 ? (
                <rect
                  key={column}
                  x={x(times[column]) - wide}
                  y={y + 1}
                  width={wide > 4 ? wide - 1 : wide + 0.5}
                  height={tall - 1}
                  fill={shade(Math.sqrt(count / most))}
                />
              ) : null
            )}
          </g>
        );
      })}
      <Clock {...{ theme, width, height, start, end }} />
    </svg>
  );
}

export function States({ theme, frames, width, height, start, end }: OverTime) {
  const tall = Math.min((height - BELOW) / frames.length, 40);
  return (
    <svg width={width} height={height}>
      {frames.map((frame, row) => {
        const times = frame.fields[0].values as number[];
        const field = frame.fields[1];
        const left = 110;
        const x = (time: number) => left + ((time / 1000 - start) / (end - start)) * (width - left);
        return (
          <g key={row}>
            <text x={left - 8} y={row * tall + tall / 2 + 4} fontSize={12} textAnchor="end" fill={theme.colors.text.primary}>
              {field.config.displayName}
            </text>
            {times.map((time, index) => (
              <rect
                key={index}
                x={x(time)}
                y={row * tall + tall * 0.15}
                width={x(times[index + 1] ?? end * 1000) - x(time) + 0.5}
                height={tall * 0.7}
                fill={field.display!(field.values[index]).color}
              />
            ))}
          </g>
        );
      })}
      <Clock {...{ theme, width, height, start, end }} />
    </svg>
  );
}

export function Graph({ theme, frames, width, height }: Drawing) {
  const column = (ref: string, name: string): any[] =>
    frames.find((frame) => frame.refId === ref)!.fields.find((field) => field.name === name)!.values;
  const ids = column('nodes', 'id');
  const sources = column('edges', 'source');
  const targets = column('edges', 'target');
  const layer = new Map<string, number>(ids.map((id) => [id, 0]));
  // As far right as the longest way to it; loops end after as many rounds as there are boxes.
  for (let round = 0; round < ids.length; round++) {
    sources.forEach((source, n) => {
      const to = layer.get(source)! + 1;
      if (source !== targets[n] && to > layer.get(targets[n])! && to < ids.length) layer.set(targets[n], to);
    });
  }
  const layers = Math.max(...layer.values()) + 1;
  const place = new Map<string, [number, number]>();
  for (let number = 0; number < layers; number++) {
    const members = ids.filter((id) => layer.get(id) === number);
    members.forEach((id, n) => {
      const x = 90 + (number * (width - 180)) / Math.max(layers - 1, 1);
      place.set(id, [x, ((n + 0.5) * height) / members.length - 12]);
    });
  }
  const calls = column('edges', 'mainstat');
  const most = Math.max(...calls);
  const R = 32;
  const halo = { paintOrder: 'stroke', stroke: theme.colors.background.primary, strokeWidth: 6 };
  return (
    <svg width={width} height={height} fontSize={12} textAnchor="middle" fill={theme.colors.text.primary}>
      <marker id="arrow" viewBox="0 0 10 10" refX={9} refY={5} markerWidth={9} markerHeight={9} markerUnits="userSpaceOnUse" orient="auto">
        <path d="M 0 0 L 10 5 L 0 10 z" fill={theme.colors.text.secondary} />
      </marker>
      {sources.map((source, n) => {
        const [fromX, fromY] = place.get(source)!;
        const [toX, toY] = place.get(targets[n])!;
        const far = Math.hypot(toX - fromX, toY - fromY) || 1;
        const [dx, dy] = [((toX - fromX) / far) * R, ((toY - fromY) / far) * R];
        return (
          <g key={n}>
            <line
              {...{ x1: fromX + dx, y1: fromY + dy, x2: toX - dx, y2: toY - dy }}
              stroke={theme.colors.text.secondary}
              strokeWidth={1 + 3 * Math.sqrt(calls[n] / most)}
              markerEnd="url(#arrow)"
            />
            <text x={(fromX + toX) / 2} y={(fromY + toY) / 2 + 4} fill={theme.colors.text.secondary} {...halo}>
              {shown('count:calls/s', calls[n])}
            </text>
          </g>
        );
      })}
      {ids.map((id, n) => {
        const [x, y] = place.get(id)!;
        return (
          <g key={id}>
            <circle cx={x} cy={y} r={R} fill={theme.colors.background.primary} stroke={theme.visualization.getColorByName('green')} strokeWidth={3} />
            <text x={x} y={y + 4} fontWeight={500}>{shown('short', column('nodes', 'mainstat')[n])}</text>
            <text x={x} y={y + R + 15} fontWeight={500}>{column('nodes', 'title')[n]}</text>
            <text x={x} y={y + R + 29} fill={theme.colors.text.secondary}>{column('nodes', 'subtitle')[n]}</text>
          </g>
        );
      })}
    </svg>
  );
}
