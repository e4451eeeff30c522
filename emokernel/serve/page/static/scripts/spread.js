/** The median of a few numbers, and how sure it is. */

const DRAWS = 2000;

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The 95 % interval of the median: a bootstrap over the values (Efron, percentiles). */
export function interval(values) {
  const draw = () => values.map(() => values[Math.floor(Math.random() * values.length)]);
  const medians = Array.from({ length: DRAWS }, () => median(draw())).sort((a, b) => a - b);
  return [medians[Math.floor(0.025 * DRAWS)], medians[Math.ceil(0.975 * DRAWS) - 1]];
}
