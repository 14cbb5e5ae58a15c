# Lines of inside.sh become a table per shape: a row per collective and size.
function us(t) { return t >= 1e6 ? sprintf("%.2f s", t / 1e6) : t >= 1e3 ? sprintf("%.1f ms", t / 1e3) : sprintf("%.0f us", t) }
function ratio(a, b) { return b > 0 ? sprintf("%.2f", a / b) : "-" }
function flush_shape(    i, key, row, best) {
  if (shape == "") return
  printf "\n%s, %s Mbit/s: payload %.3f MB/s in a bare stream (%.3f when two cross), %s us there and back\n", shape, rate, one / 1e6, both / 1e6, trip
  printf "%-15s %8s  %-12s %10s %7s %10s %8s %10s %8s %10s %-28s %6s\n", "collective", "bytes", "algorithm", "time", "% bound", "predicted", "measured", "own ring", "ring /", "best peer", "its library, algorithm", "peer /"
  printf "%-15s %8s  %-12s %10s %7s %10s %8s %10s %8s %10s %-28s %6s\n", "", "", "", "(median)", "", "", "/ pred.", "", "chosen", "", "", "chosen"
  for (i = 1; i <= rows; i++) {
    key = order[i]
    if (!(key in chosen)) { printf "%-15s %8s  did not finish\n", coll[key], size[key]; continue }
    printf "%-15s %8s  %-12s %10s %7s %10s %8s %10s %8s %10s %-28s %6s\n", coll[key], size[key], algorithm[key], us(chosen[key]),
      sprintf("%.1f", 100 * bound[key] / chosen[key]), us(predicted[key]), ratio(chosen[key], predicted[key]),
      (key in ring) ? us(ring[key]) : "-", (key in ring) ? ratio(ring[key], chosen[key]) : "-",
      (key in peer) ? us(peer[key]) : "-", (key in peer) ? who[key] : "-", (key in peer) ? ratio(peer[key], chosen[key]) : "-"
  }
  if (bad > 0) printf "WRONG RESULTS: %d elements\n", bad
  printf "load of the machine: %.1f to %.1f\n", low, high
  delete chosen; delete ring; delete peer; delete who; delete bound
  rows = 0; bad = 0; high = 0; low = 1e9; shape = ""
}
BEGIN { low = 1e9 }
$1 == "shape" { flush_shape(); shape = $2; rate = $3 }
$1 == "link" { one = $2; both = $3; trip = $4 }
$1 == "plan" {
  key = $2 " " $3
  order[++rows] = key; coll[key] = $2; size[key] = $3; bound[key] = $4; algorithm[key] = $5
  predicted[key] = $7 + 0 > 0 ? $7 : $6
}
$1 == "cell" {
  key = $4 " " $5
  if ($10 > high) high = $10
  if ($10 < low) low = $10
  bad += $9
  if ($2 != "meshccl") { if (!(key in peer) || $6 < peer[key]) { peer[key] = $6; who[key] = $2 " " $3 } }
  else if ($3 == "chosen") chosen[key] = $6
  else if ($3 == "ring") ring[key] = $6
}
END { flush_shape() }
