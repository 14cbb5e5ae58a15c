#!/bin/sh
# test_info.sh BIN_FOLDER: meshccl info tells where values come from, as text and as JSON, and refuses what it does not know.
bin=$1
. "$(dirname "$0")/lib.sh"

good "text" env MESHCCL_CREDITS=8 "$bin/meshccl" info
says "a value of the environment" "MESHCCL_CREDITS = 8 \(environment\)"
says "a default" "MESHCCL_SLICE = 128K \(default\)"
says "shm works here" "shm +built in, usable"
says "algorithms" "double_tree +halves of the vector"
says "kernels" "in use: [a-z0-9]+; available: .*scalar"

good "JSON" env MESHCCL_CREDITS=8 MESHCCL_TRANSPORTS=^shm MESHCCL_KERNELS=scalar "$bin/meshccl" info --json
cp "$scratch/out" "$scratch/info.json"
json "values and sources" "$scratch/info.json" "[(v['value'], v['source']) for v in d['variables'] if v['name'] == 'MESHCCL_CREDITS'] == [('8', 'environment')]"
json "shm is excluded, self is not" "$scratch/info.json" "{t['name']: t['allowed'] for t in d['transports'] if t['name'] in ('shm', 'self')} == {'shm': False, 'self': True}"
json "algorithms and what they serve" "$scratch/info.json" "[a['collectives'] for a in d['algorithms'] if a['name'] == 'staged'] == [['all_to_all']]"
json "forced kernels" "$scratch/info.json" "d['kernels']['in_use'] == 'scalar' and 'scalar' in d['kernels']['available']"

refused "a value out of range" 1 "MESHCCL_CREDITS=99" env MESHCCL_CREDITS=99 "$bin/meshccl" info
good "a misspelt name is warned of" env MESHCCL_CREDIT=2 "$bin/meshccl" info
grep -q "MESHCCL_CREDITS" "$scratch/err" || { echo "FAILED: the nearest name is not given"; failed=$((failed + 1)); }
refused "an unknown transport" 1 "carrier-pigeon" env MESHCCL_TRANSPORTS=carrier-pigeon "$bin/meshccl" info
refused "an unknown option" 2 "left over" "$bin/meshccl" info --xml
echo "$failed failed"
exit $((failed > 0))
