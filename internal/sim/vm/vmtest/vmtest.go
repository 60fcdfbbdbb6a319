// Package vmtest is an operating system of a hundred bytes, for tests of machines
// that boot: it asks for a login on the first serial port, and echoes what it is
// sent. It switches the machine off when the power button is pressed or it is sent
// a "p", and resets it when it is sent an "r".
package vmtest

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/media/isotest"
)

// program is 16-bit code that runs wherever it is loaded, and prints the text
// that follows it.
var program = []byte{
	0x0e, 0x1f, 0xfc, // push cs; pop ds; cld
	0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // mov dx,602h; mov ax,100h; out dx,ax: notice the power button
	0xe8, 0x00, 0x00, 0x5e, 0x81, 0xc6, 0x54, 0x00, // call $+3; pop si; add si,54h: the text
	0xac, 0x84, 0xc0, 0x74, 0x05, 0xe8, 0x26, 0x00, 0xeb, 0xf6, // lodsb; test al,al; jz wait; call put; jmp here
	// wait:
	0xfb, 0xf4, // sti; hlt: until the next tick of the clock
	0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x75, 0x2a, // mov dx,600h; in ax,dx; test ah,1; jnz off: the button
	// more:
	0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xed, // mov dx,3fdh; in al,dx; test al,1; jz wait
	0xba, 0xf8, 0x03, 0xec, // mov dx,3f8h; in al,dx: what was typed
	0x3c, 'p', 0x74, 0x1a, 0x3c, 'r', 0x74, 0x20, // cmp al,'p'; je off; cmp al,'r'; je reset
	0xe8, 0x02, 0x00, 0xeb, 0xe7, // call put; jmp more
	// put:
	0x88, 0xc4, 0xba, 0xfd, 0x03, // mov ah,al; mov dx,3fdh
	0xec, 0xa8, 0x20, 0x74, 0xfb, // in al,dx; test al,20h; jz $-3: until the port is free
	0x88, 0xe0, 0xba, 0xf8, 0x03, 0xee, 0xc3, // mov al,ah; mov dx,3f8h; out dx,al; ret
	// off:
	0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // mov dx,604h; mov ax,2000h; out dx,ax: ACPI's S5
	0xf4, 0xeb, 0xfd, // hlt; jmp $-1
	// reset:
	0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xf7, // mov al,0feh; out 64h,al; jmp to the hlt: the keyboard controller's
}

// boot is a boot sector that asks "NAME login: ".
func boot(name string) []byte {
	return append(append([]byte(nil), program...), "\r\n"+name+" login: \x00"...)
}

// Disk writes a disk image, raw, to the file name; its system calls itself host.
func Disk(name, host string) error {
	const size = 1 << 20
	b := make([]byte, size)
	copy(b, boot(host))
	b[510], b[511] = 0x55, 0xaa // a PC's firmware boots nothing without
	if err := os.WriteFile(name, b, 0o644); err != nil {
		return fmt.Errorf("vmtest: write a disk: %w", err)
	}
	return nil
}

// CD writes an ISO image whose system calls itself host.
func CD(w io.Writer, volumeID, host string, created time.Time) error {
	return isotest.Write(w, isotest.Image{VolumeID: volumeID, Created: created, Size: 1 << 20, Boot: boot(host)})
}
