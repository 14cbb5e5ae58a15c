#!/bin/sh
# docs/pictures/*.svg are what docs/pictures/draw.py draws. Skipped where there is no Python.
cd "$(dirname "$0")/../.." || exit 2
command -v python3 >/dev/null || { echo "pictures: python3 is missing"; exit 77; }
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -B docs/pictures/draw.py "$folder" || exit 1
for picture in docs/pictures/*.svg "$folder"/*.svg; do
  name=$(basename "$picture")
  cmp -s "docs/pictures/$name" "$folder/$name" || {
    echo "docs/pictures/$name is out of date: docs/pictures/draw.py"
    exit 1
  }
done
echo "pictures: $(ls "$folder" | wc -l) are up to date"
