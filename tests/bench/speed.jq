# What tests/bench/speed makes of what it has measured: a table for a terminal,
# one for README.md, a chart.

def spaces: [range(if . > 0 then . else 0 end) | " "] | join("");
def left($n): . + ($n - length | spaces);
def right($n): ($n - length | spaces) + .;

# fixed(N): with so many digits after the point.
def fixed($n):
  pow(10; $n) as $ten | (. * $ten | round) as $all
  | ($all / $ten | floor | tostring)
    + if $n == 0 then "" else
      "." + ($all % $ten + $ten | tostring | .[1:]) end;

def seconds: fixed(if . < 0.1 then 4 elif . < 10 then 3 else 1 end);
def times: fixed(if . < 10 then 1 else 0 end);
def mib: . / 1048576 | fixed(if . < 10 then 1 else 0 end);

# --------------------------------------------------------------- one case

def runs:
  [split("\n")[] | select(. != "") | split(" ") | map(tonumber)
    | {seconds: .[0], cpu: .[1], memory: .[2], written: .[3]}];

def median: sort | (.[(length - 1) / 2 | floor] + .[length / 2 | floor]) / 2;

def tool($size):
  {seconds: (map(.seconds) | median), cpu: (map(.cpu) | median),
   memory: (map(.memory) | max), written: (map(.written) | median)}
  + if $size > 0 then {size: $size} else {} end
  + {runs: .};

# From the arguments that `speed` gives.
def summary:
  {name: $name, command: $command, target: $target}
  + if $why != "" then {"not-measured": $why}
    elif $failed != "" then {failed: $failed}
    else
      {"qemu-img": ($theirs | runs | tool($theirs_size[0])),
       qimg: ($ours | runs | tool($ours_size[0]))}
      | .ratio = ."qemu-img".seconds / .qimg.seconds
      | .met = (.ratio >= $target)
      | .limit = {what: $limit, seconds: $took}
      | .distance = .qimg.seconds / $took
      | .larger = ($ours_size[0] > $theirs_size[0])
      | ."over-memory" = (.qimg.memory > $mib * 1048576)
    end;

def marks:
  [ if .failed then "FAILED" else empty end,
    if .met == false then "missed" else empty end,
    if .larger then "LARGER" else empty end,
    if ."over-memory" then "MEMORY" else empty end ];

# ---------------------------------------------------------------- a terminal

def text_head:
  ("" | left(31)) + "---- seconds ----  -- times --  -- CPU, s ---"
    + "  --- MiB ----  written, MiB  --- limit ---\n"
    + ("case" | left(31)) + "qemu-img     qimg  fast target  theirs   ours"
    + "  theirs  ours  theirs  ours  seconds times";

def text_row:
  (.name | left(31))
  + if .failed then "FAILED: " + .failed
    elif ."not-measured" then "not measured: " + ."not-measured"
    else
      ([ (."qemu-img".seconds | seconds | right(8)),
         (.qimg.seconds | seconds | right(9)),
         (.ratio | times | right(6)), (.target | tostring | right(7)),
         (."qemu-img".cpu | seconds | right(8)),
         (.qimg.cpu | seconds | right(7)),
         (."qemu-img".memory | mib | right(8)),
         (.qimg.memory | mib | right(6)),
         (."qemu-img".written | mib | right(8)),
         (.qimg.written | mib | right(6)),
         (.limit.seconds | seconds | right(9)),
         (.distance | times | right(6)), (marks[] | "  " + .) ] | join(""))
      + if .qimg.size then
          "\n" + (2 | spaces) + "size of the file, bytes: "
          + "\(."qemu-img".size) by qemu-img, \(.qimg.size) by qimg"
        else "" end
    end;

def machine:
  .machine | "\(.cpu), \(.cores) cores, \(.memory | mib) MiB of memory, "
    + "Linux \(.kernel), \(."file-system")";

def versions: "qemu-img \(.versions."qemu-img"), qimg \(.versions.qimg)";

def data:
  .data | "\(.files) of files in \(.disk), \(.mapped) mapped, "
    + "\(.huge) with bitmaps, \(.layers) layers"
    + if .quick then "; A QUICK RUN: these are no results" else "" end;

def count(f): map(select(f)) | length;

def text_begin:
  "speed: \(data)", "\(machine); \(versions)", "", text_head;

def text_end:
  "",
  "limit: one plain pass over the same bytes, and qimg's time in terms of it",
  (.cases | "\(count(.met)) of \(count(.met != null)) reach their target, "
    + "\(count(."not-measured")) not measured, \(count(.failed)) failed, "
    + "\(count(.larger)) larger, \(count(."over-memory")) with too much memory");

def text: text_begin, (.cases[] | text_row), text_end;

# ----------------------------------------------------------------- README.md

def markdown_row:
  "| \(.name) | "
  + if .failed or ."not-measured" then
      "| | | \(.target) | | | \(if .failed then "failed" else "not measured: "
        + ."not-measured" end) |"
    else
      "\(."qemu-img".seconds | seconds) | \(.qimg.seconds | seconds) "
      + "| **\(.ratio | times)** | \(.target) "
      + "| \(."qemu-img".cpu | seconds) / \(.qimg.cpu | seconds) "
      + "| \(."qemu-img".memory | mib) / \(.qimg.memory | mib) "
      + "| \(.distance | times) × \(.limit.what)"
      + (marks | map(", " + .) | join("")) + " |"
    end;

def markdown:
  "| case | qemu-img, s | qimg, s | times as fast | target | CPU, s | MiB "
    + "| time of a limit |",
  "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
  (.cases[] | markdown_row),
  "",
  "\(.date[:10]): \(machine); \(versions); \(data).";

# ------------------------------------------------------------------- a chart

def escape: gsub("&"; "&amp;") | gsub("<"; "&lt;") | gsub("\""; "&quot;");

# Bars that begin at 1 on a scale of logarithms; where they should end is marked.
def svg:
  {x: 232, width: 500, row: 20, top: 64} as $at
  | [.cases[] | select(.ratio)] as $cases
  | ([$cases[] | .ratio, .target] | max // 10 | log10 | ceil) as $decades
  | (def x: (if . < 0.5 then 0.5 else . end | log10) as $log
       | (0.5 | log10) as $from
       | $at.x + $at.width * ($log - $from) / ($decades - $from) | fixed(1);
     ($cases | length * $at.row + $at.top) as $bottom
     | "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" "
       + "height=\"\($bottom + 36)\" viewBox=\"0 0 800 \($bottom + 36)\" "
       + "role=\"img\" aria-labelledby=\"title about\">",
     "<title id=\"title\">How many times as fast as qemu-img qimg is</title>",
     "<desc id=\"about\">\([$cases[] | "\(.name): \(.ratio | times)"]
       | join("; ") | escape)</desc>",
     "<style>",
     "text { font: 12px sans-serif; fill: #24292f }",
     ".paper { fill: #ffffff } .grid { stroke: #d0d7de }",
     ".one { stroke: #57606a } .met { fill: #2f7ebc } .missed { fill: #d1761f }",
     ".target { stroke: #24292f; stroke-width: 2 } .head { font-weight: bold }",
     "@media (prefers-color-scheme: dark) {",
     "text { fill: #e6edf3 } .paper { fill: #0d1117 }",
     ".grid { stroke: #30363d } .one { stroke: #8b949e }",
     ".target { stroke: #e6edf3 } }",
     "</style>",
     "<rect class=\"paper\" width=\"100%\" height=\"100%\"/>",
     "<text class=\"head\" x=\"12\" y=\"22\">Times as fast as qemu-img, same "
       + "command line, same run\(if .data.quick
         then " (a quick run: no results)" else "" end)</text>",
     ([range(0; $decades)] | map(pow(10; .)) | map(., . * 2, . * 5)
       + [pow(10; $decades)] | .[] | . as $v | ($v | x) as $x
       | "<line class=\"\(if $v == 1 then "one" else "grid" end)\" x1=\"\($x)\" "
         + "y1=\"\($at.top - 8)\" x2=\"\($x)\" y2=\"\($bottom)\"/>",
         "<text text-anchor=\"middle\" x=\"\($x)\" y=\"\($at.top - 14)\">"
         + "\($v)</text>"),
     ($cases | to_entries[] | ($at.top + .key * $at.row) as $y | .value
       | ([1, .ratio] | min | x | tonumber) as $from
       | ([1, .ratio] | max | x | tonumber) as $to
       | (.target | x) as $target
       | ([$to, ($target | tonumber)] | max + 6 | fixed(1)) as $after
       | "<text text-anchor=\"end\" x=\"\($at.x - 10)\" y=\"\($y + 13)\">"
         + "\(.name | escape)</text>",
         "<rect class=\"\(if .met then "met" else "missed" end)\" "
         + "x=\"\($from)\" y=\"\($y + 3)\" width=\"\($to - $from | fixed(1))\" "
         + "height=\"13\"/>",
         "<line class=\"target\" x1=\"\($target)\" y1=\"\($y + 1)\" "
         + "x2=\"\($target)\" y2=\"\($y + 18)\"/>",
         "<text x=\"\($after)\" y=\"\($y + 13)\">\(.ratio | times)"
         + "\(if .met then "" else ", missed" end)</text>"),
     "<text x=\"12\" y=\"\($bottom + 22)\">The upright line in a row is its "
       + "target. \(.date[:10]), \(.machine.cpu | escape), "
       + "\(.machine.cores) cores.</text>",
     "</svg>");
