#!/usr/bin/env bash
# What a machine with a CUDA GPU shows in at most nine minutes: bash tests/gpu_check.sh OUT
#
# Needs python3 (or what PYTHON names) with torch, transformers and what sam2kit itself imports. Each part has a limit,
# and what it printed until then stays; one that fails does not end the rest. Eight files come to lie in OUT.
# SAM2KIT_CHECK_DEVICE=cpu SAM2KIT_CHECK_MODEL=nano tries the script itself where there is no GPU.
set -u
export SAM2KIT_CHECK_DEVICE="${SAM2KIT_CHECK_DEVICE:-cuda}" SAM2KIT_CHECK_MODEL="${SAM2KIT_CHECK_MODEL:-sam2.1-hiera-tiny}"
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
python="${PYTHON:-python3}"
if [ $# -ne 1 ]; then
    echo "give the folder for the results: bash tests/gpu_check.sh OUT" >&2
    exit 2
fi
mkdir -p "$1" && out="$(cd "$1" && pwd)" && cd "$(dirname "$0")/.." || exit 2
if [ "$SAM2KIT_CHECK_DEVICE" = cuda ] && ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "this machine has no CUDA GPU that $python's torch can use; SAM2KIT_CHECK_DEVICE=cpu tries the script without" >&2
    exit 2
fi
failed=0

part() { # name, limit in seconds, command: its output goes to NAME.txt, its end to log.txt
    local name="$1" limit="$2" began=$SECONDS code
    shift 2
    limit=$((limit * slower))
    timeout -k 2 "$limit" "$@" >"$out/$name.txt" 2>&1
    code=$?
    echo "$name: code $code after $((SECONDS - began)) s of $limit" | tee -a "$out/log.txt"
    [ $code -eq 0 ] || failed=1
}

table() { # name, limit, options: a table of the benchmark as NAME.md and NAME.json, with what it said in log.txt
    local name="$1" limit="$2" began=$SECONDS code folder
    shift 2
    limit=$((limit * slower))
    folder="$(mktemp -d)"
    timeout -k 5 "$limit" "$python" -m tests.bench compare --model "$SAM2KIT_CHECK_MODEL" \
        --device "$SAM2KIT_CHECK_DEVICE" --out "$folder" "$@" >"$folder/said" 2>&1 &
    while kill -0 $! 2>/dev/null; do # what it has so far
        sleep 2
        kept "$folder" "$name"
    done
    wait $!
    code=$?
    kept "$folder" "$name"
    { echo "$name: code $code after $((SECONDS - began)) s of $limit" && tail -n 40 "$folder/said"; } >>"$out/log.txt"
    echo "$name: code $code after $((SECONDS - began)) s of $limit"
    [ $code -eq 0 ] || failed=1
    rm -r "$folder"
}

kept() { # folder, name
    local ending
    for ending in md json; do
        [ ! -f "$1/compare.$ending" ] || cp "$1/compare.$ending" "$out/$2.$ending"
    done
}

slower=1
if [ "$SAM2KIT_CHECK_DEVICE" = cpu ]; then
    slower=4
    one=(--dtype float32 --side 64 --rounds 1 --work click --work frame2 --contender sam2kit-fast --contender transformers)
    last=(--dtype float32 --side 64 --rounds 1 --work frame2)
else
    one=(--dtype bfloat16 --rounds 3 --frames 40 --deadline 45)
    for work in frame encode click clicks frame10; do one+=(--work "$work"); done
    for who in sam2kit-fast transformers transformers-half; do one+=(--contender "$who"); done
    last=(--dtype bfloat16 --rounds 2 --frames 40 --work frame --deadline 110 --contender sam2kit-compiled)
fi
: >"$out/log.txt"
part smoke 100 "$python" -m tests.gpu_check smoke
part correct 80 "$python" -m tests.gpu_check correct
table compare 175 "${one[@]}"
part profile 40 "$python" -m tests.gpu_check profile
table compiled 120 "${last[@]}"
exit $failed
