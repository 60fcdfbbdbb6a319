// Package isotest writes tiny, valid ISO 9660 images, for the simulated site and
// for tests: a volume identifier, a creation date and one file. The same Image
// always gives the same bytes.
package isotest

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/media"
)

// An Image is what tells one written image from another.
type Image struct {
	VolumeID string    // at most MaxVolumeID characters
	Created  time.Time // with its zone, kept to 15 minutes; the zero time for none
	Size     int64     // bytes, rounded up to whole sectors; at least MinSize
	// Boot is what a PC's firmware loads and runs, at most a sector of 16-bit code
	// (El Torito, without emulation); nil for an image that does not boot.
	Boot []byte
}

// MinSize is the size of the smallest image: all structures and a file of one
// sector.
const MinSize = (sectorFile + 1) * media.SectorSize

// MaxVolumeID is how long a volume identifier may be.
const MaxVolumeID = 32

// Where things are, in sectors.
const (
	sectorPrimary    = 16
	sectorTerminator = 17
	sectorPathL      = 18
	sectorPathM      = 19
	sectorRoot       = 20
	sectorFile       = 21
)

const (
	pathTableSize = 10
	fileName      = "LIVE.IMG;1"
	directoryFlag = 2
)

// Write writes the image to w.
func Write(w io.Writer, img Image) error {
	if len(img.VolumeID) > MaxVolumeID {
		return fmt.Errorf("isotest: volume id %q is longer than %d characters", img.VolumeID, MaxVolumeID)
	}
	if len(img.Boot) > media.SectorSize {
		return fmt.Errorf("isotest: %d bytes of boot code do not fit into a sector", len(img.Boot))
	}
	sectors := (max(img.Size, MinSize) + media.SectorSize - 1) / media.SectorSize
	if len(img.Boot) > 0 {
		sectors += bootSectors
	}
	if sectors > 1<<20 {
		return fmt.Errorf("isotest: %d bytes are too many for an image to test with", img.Size)
	}
	for n := range sectors {
		if _, err := w.Write(img.sector(int(n), int(sectors))); err != nil {
			return fmt.Errorf("isotest: write the image: %w", err)
		}
	}
	return nil
}

func (img Image) sector(n, total int) []byte {
	b := make([]byte, media.SectorSize)
	if len(img.Boot) > 0 && n > sectorPrimary {
		switch n {
		case sectorBootRecord:
			bootRecord(b, total-2)
			return b
		case total - 2:
			bootCatalog(b, total-1)
			return b
		case total - 1:
			copy(b, img.Boot)
			return b
		}
		n-- // what follows the boot record is a sector later
	}
	switch n {
	case sectorPrimary:
		img.primary(b, total)
	case sectorTerminator:
		copy(b, "\xffCD001\x01")
	case sectorPathL:
		img.pathTable(b, binary.LittleEndian)
	case sectorPathM:
		img.pathTable(b, binary.BigEndian)
	case sectorRoot:
		img.root(b, total)
	default:
		if n >= sectorFile { // something to read that says where it is
			copy(b, fmt.Sprintf("%s sector %d\n", img.VolumeID, n))
		}
	}
	return b
}

// at is where a structure is in this image: in one that boots, all behind the
// primary descriptor make room for the boot record.
func (img Image) at(sector int) int {
	if len(img.Boot) > 0 && sector > sectorPrimary {
		return sector + 1
	}
	return sector
}

// primary fills in the primary volume descriptor (ECMA-119 8.4).
func (img Image) primary(b []byte, total int) {
	copy(b, "\x01CD001\x01")
	text(b[8:40], "LINUX")
	text(b[40:72], img.VolumeID)
	both32(b[80:], total)
	both16(b[120:], 1) // volumes in the set
	both16(b[124:], 1) // number of this one
	both16(b[128:], media.SectorSize)
	both32(b[132:], pathTableSize)
	binary.LittleEndian.PutUint32(b[140:], uint32(img.at(sectorPathL)))
	binary.BigEndian.PutUint32(b[148:], uint32(img.at(sectorPathM)))
	img.record(b[156:], "\x00", img.at(sectorRoot), media.SectorSize, directoryFlag)
	for _, span := range [][2]int{{190, 318}, {318, 446}, {446, 574}, {574, 702}, {702, 739}, {739, 776}, {776, 813}} {
		text(b[span[0]:span[1]], "")
	}
	date(b[813:830], img.Created)
	date(b[830:847], img.Created)
	date(b[847:864], time.Time{})
	date(b[864:881], time.Time{})
	b[881] = 1 // version of the file structure
}

func (img Image) root(b []byte, total int) {
	n := img.record(b, "\x00", img.at(sectorRoot), media.SectorSize, directoryFlag)
	n += img.record(b[n:], "\x01", img.at(sectorRoot), media.SectorSize, directoryFlag)
	end := total
	if len(img.Boot) > 0 {
		end -= 2
	}
	img.record(b[n:], fileName, img.at(sectorFile), (end-img.at(sectorFile))*media.SectorSize, 0)
}

// record writes a directory record (ECMA-119 9.1) and returns its length.
func (img Image) record(b []byte, name string, sector, size int, flags byte) int {
	n := 33 + len(name)
	n += n % 2
	b[0] = byte(n)
	both32(b[2:], sector)
	both32(b[10:], size)
	if t := img.Created; !t.IsZero() {
		copy(b[18:], []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), quarters(t)})
	}
	b[25] = flags
	both16(b[28:], 1)
	b[32] = byte(len(name))
	copy(b[33:], name)
	return n
}

func (img Image) pathTable(b []byte, order binary.ByteOrder) {
	b[0] = 1 // length of the root's name
	order.PutUint32(b[2:], uint32(img.at(sectorRoot)))
	order.PutUint16(b[6:], 1)
}

func text(b []byte, s string) { copy(b, s+strings.Repeat(" ", len(b)-len(s))) }

func both16(b []byte, v int) {
	binary.LittleEndian.PutUint16(b, uint16(v))
	binary.BigEndian.PutUint16(b[2:], uint16(v))
}

func both32(b []byte, v int) {
	binary.LittleEndian.PutUint32(b, uint32(v))
	binary.BigEndian.PutUint32(b[4:], uint32(v))
}

// date writes the 17 bytes of a descriptor's date (ECMA-119 8.4.26.1).
func date(b []byte, t time.Time) {
	if t.IsZero() {
		copy(b, strings.Repeat("0", 16)+"\x00")
		return
	}
	copy(b, t.Format("20060102150405")+fmt.Sprintf("%02d", t.Nanosecond()/int(10*time.Millisecond)))
	b[16] = quarters(t)
}

// quarters is the offset from UTC in quarters of an hour, as ISO 9660 has it.
func quarters(t time.Time) byte {
	_, offset := t.Zone()
	return byte(int8(offset / (15 * 60)))
}
