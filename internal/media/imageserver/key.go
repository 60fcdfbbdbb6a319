package imageserver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Key is the secret that the names of the nodes' directories are made with.
type Key [32]byte

// How long the parts of a path are, in characters: 80 bits of the hash, which
// nobody guesses over a network, and 48 of the digest. With http:// and an IPv4
// address and port they make 60 characters at most.
const (
	directoryLength = 16
	digestLength    = 12
	ending          = ".iso"
)

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (k Key) name(purpose, of string) string {
	h := hmac.New(sha256.New, k[:])
	_, _ = h.Write([]byte(purpose + "\x00" + of)) // it never fails
	return letters.EncodeToString(h.Sum(nil))
}

// Directory is the name of the node's directory.
func (k Key) Directory(node string) string { return k.name("node", node)[:directoryLength] }

// Path is where the image with that SHA-256, in lower case hex, is served to the
// node: an absolute path.
func (k Key) Path(node, digest string) string { return "/" + k.Directory(node) + "/" + Name(digest) }

// Name is the last part of the path of the image with that SHA-256.
func Name(digest string) string { return digest[:min(digestLength, len(digest))] + ending }

const keyFile = "key"

// LoadKey reads the key that is kept in the directory, and makes both on the
// first call. Two that make it at once get the same.
func LoadKey(dir string) (Key, error) {
	name := filepath.Join(dir, keyFile)
	k, err := readKey(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(dir, name); err == nil {
			k, err = readKey(name)
		}
	}
	if err != nil {
		return Key{}, &bmc.Error{
			Op: "read the key of the images' names", Kind: bmc.KindMedia, Err: err,
			Hint: "make " + dir + " a directory that you can write to; a key that is lost gives all images new names",
		}
	}
	return k, nil
}

func readKey(name string) (k Key, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return Key{}, err
	}
	text := strings.TrimSpace(string(b))
	if n, err := hex.Decode(k[:], []byte(text[:min(len(text), 2*len(k))])); err != nil || n != len(k) || len(text) != 2*len(k) {
		return Key{}, fmt.Errorf("%s holds no key of %d hexadecimal digits", name, 2*len(k))
	}
	return k, nil
}

func makeKey(dir, name string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var k Key
	_, _ = rand.Read(k[:]) // it never fails
	f, err := os.CreateTemp(dir, keyFile+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(hex.EncodeToString(k[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// Linked, not renamed: the one that came first stays.
	if err = os.Link(f.Name(), name); errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
