package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// Where the primary volume descriptor is: bytes, from the start of an image.
const (
	SectorSize       = 2048
	DescriptorOffset = 16 * SectorSize
	// headSize is all of an image up to and with its primary volume descriptor.
	headSize = DescriptorOffset + SectorSize
)

// Offsets within the descriptor (ECMA-119 8.4).
const (
	typeAt       = 0
	standardAt   = 1
	volumeIDAt   = 40
	volumeIDEnd  = 72
	spaceSizeAt  = 80
	blockSizeAt  = 128
	createdAt    = 813
	createdEnd   = 830
	typePrimary  = 1
	standardName = "CD001"
)

// ErrNotISO says that what was read is not a primary volume descriptor.
var ErrNotISO = errors.New("not an ISO 9660 image: sector 16 has no primary volume descriptor")

// descriptor is what livecd-sync reads of a primary volume descriptor.
type descriptor struct {
	volume site.Volume
	bytes  int64 // the size of the file system, which the image cannot be smaller than
}

// ParseVolume reads the identity of an image from its primary volume
// descriptor: the 2048 bytes of sector 16. The error is ErrNotISO, wrapped, for
// anything else.
//
// A creation date that is unset or not made of digits gives an empty Created:
// such an image is told by its volume identifier alone.
func ParseVolume(sector []byte) (site.Volume, error) {
	d, err := parseDescriptor(sector)
	return d.volume, err
}

func parseDescriptor(sector []byte) (descriptor, error) {
	if len(sector) < SectorSize {
		return descriptor{}, fmt.Errorf("%w (only %d of its %d bytes were read)", ErrNotISO, len(sector), SectorSize)
	}
	if sector[typeAt] != typePrimary || string(sector[standardAt:standardAt+len(standardName)]) != standardName {
		return descriptor{}, ErrNotISO
	}
	// Numbers are stored twice, in both byte orders; the little-endian copy is
	// the one that Linux mounts by.
	blocks := int64(binary.LittleEndian.Uint32(sector[spaceSizeAt:]))
	block := int64(binary.LittleEndian.Uint16(sector[blockSizeAt:]))
	return descriptor{
		volume: site.Volume{
			ID:      strings.TrimRight(string(sector[volumeIDAt:volumeIDEnd]), " \x00"),
			Created: parseDate(sector[createdAt:createdEnd]),
		},
		bytes: blocks * block,
	}, nil
}

// parseDate turns the 17 bytes of a descriptor's date, 16 digits and the offset
// from UTC in quarters of an hour, into the form that site.Volume documents.
func parseDate(b []byte) string {
	digits := string(b[:16])
	if strings.Trim(digits, "0") == "" || strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	offset, sign := int(int8(b[16]))*15, '+'
	if offset < 0 {
		offset, sign = -offset, '-'
	}
	return fmt.Sprintf("%s-%s-%sT%s:%s:%s.%s%c%02d:%02d", digits[:4], digits[4:6], digits[6:8],
		digits[8:10], digits[10:12], digits[12:14], digits[14:16], sign, offset/60, offset%60)
}
