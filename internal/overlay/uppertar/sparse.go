package uppertar

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxRegions bounds a sparse file's map, in what is written and what is read:
// 16 MiB of memory. The rest of a file with more is written with its holes.
const maxRegions = 1 << 20

// A region is data of a sparse file between holes.
type region struct{ at, n int64 }

// findRegions asks the file system where the data of an open file is. ok is
// false if the file had better be written as a whole.
func findRegions(fd int, st *unix.Stat_t) (regions []region, ok bool) {
	if st.Size == 0 || st.Blocks >= (st.Size+511)/512 {
		return nil, false
	}
	for at := int64(0); at < st.Size; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole is left
			break
		}
		if err != nil {
			return nil, false
		}
		hole, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil || len(regions) == maxRegions-1 {
			hole = st.Size
		}
		regions = addRegion(regions, data, hole, st.Size)
		at = hole
	}
	if len(regions) == 1 && regions[0].n == st.Size {
		return nil, false
	}
	return regions, true
}

// addRegion adds what lies from one place to another, in whole blocks, since a
// region in an archive begins on one.
func addRegion(regions []region, from, to, size int64) []region {
	from -= from % blockBytes
	to = min(to+(blockBytes-to%blockBytes)%blockBytes, size)
	if last := len(regions) - 1; last >= 0 {
		if end := regions[last].at + regions[last].n; from <= end {
			regions[last].n = max(end, to) - regions[last].at
			return regions
		}
	}
	if from >= to {
		return regions
	}
	return append(regions, region{from, to - from})
}

// appendMap appends the map of a file as GNU tar's format 1.0 has it before the
// data: numbers, a line each, up to a whole block. It ends with an empty region
// if the file ends with a hole.
func appendMap(b []byte, regions []region, size int64) []byte {
	if n := len(regions); n == 0 || regions[n-1].at+regions[n-1].n < size {
		regions = append(regions, region{size, 0})
	}
	start := len(b)
	line := func(n int64) { b = append(strconv.AppendInt(b, n, 10), '\n') }
	line(int64(len(regions)))
	for _, r := range regions {
		line(r.at)
		line(r.n)
	}
	return appendPadding(b, len(b)-start)
}
