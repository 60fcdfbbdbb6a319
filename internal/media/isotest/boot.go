package isotest

import "encoding/binary"

// An image that boots has its boot record in the sector that El Torito 1.0
// demands, and a boot catalogue and the code in its last two sectors.
const (
	sectorBootRecord = 17
	bootSectors      = 3
)

// bootRecord fills in the descriptor that leads to the catalogue (El Torito 2.0).
func bootRecord(b []byte, catalogue int) {
	copy(b, "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(b[0x47:], uint32(catalogue))
}

// bootCatalog fills in a validation entry and one for a PC's BIOS (El Torito 2.1,
// 2.2).
func bootCatalog(b []byte, code int) {
	b[0] = 1 // the header's id; platform 0 is the PC
	b[0x1e], b[0x1f] = 0x55, 0xaa
	var sum uint16
	for i := 0; i < 0x20; i += 2 {
		sum += binary.LittleEndian.Uint16(b[i:])
	}
	binary.LittleEndian.PutUint16(b[0x1c:], -sum) // all words add up to zero
	entry := b[0x20:]
	entry[0] = 0x88                             // bootable, no emulation, loaded to 07c0:0000
	binary.LittleEndian.PutUint16(entry[6:], 4) // so many sectors of 512 bytes
	binary.LittleEndian.PutUint32(entry[8:], uint32(code))
}
