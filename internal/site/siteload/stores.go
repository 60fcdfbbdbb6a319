package siteload

import (
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// stores reads the stores. The sections that go with another kind of URL are
// reported: what they say would be without effect.
func (r *resolver) stores() {
	for _, v := range r.root.get("stores").items() {
		s := site.Store{Name: v.key, Pos: r.keyPos(v)}
		if place := v.get("url"); place.str() != "" {
			s.URL = place.text
			if u := r.storeURL(place); u != nil {
				r.storeKeys(&s, v, u)
			}
		}
		r.site.Stores[v.key] = s
	}
}

func (r *resolver) storeKeys(s *site.Store, v *value, u *url.URL) {
	if a := v.get("age"); a != nil && !a.bad {
		s.Age = r.storeAge(a)
	}
	if u.Scheme == "sftp" {
		s.SSH = r.storeSSH(v, u)
		return
	}
	if ssh := v.get("ssh"); ssh != nil {
		r.failKey(ssh, "there is nobody to log in to at "+quote(s.URL), "remove it, or write an sftp URL")
	}
}

// storeURL looks at the directory of a store's URL, and at its host. It returns
// nil after it has reported something.
func (r *resolver) storeURL(v *value) *url.URL {
	u, err := url.Parse(v.str())
	if err != nil {
		r.fail(v, v.show()+" is not a URL", "write for example file:///var/lib/livecd-sync/backups")
		return nil
	}
	example := (&url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: "/var/lib/livecd-sync/backups"}).String()
	clean := path.Clean(u.Path)
	switch {
	case clean == "/":
		r.fail(v, "the root directory cannot be a store", "write for example "+example)
	case strings.ContainsRune(clean, 0):
		r.fail(v, v.show()+" has a zero byte in its path", "write for example "+example)
	case clean != strings.TrimSuffix(u.Path, "/"):
		u.Path, u.RawPath = clean, ""
		r.fail(v, v.show()+" is a roundabout way to name a directory", "write "+u.String())
	case u.Scheme != "file" && (!r.checkPort(v, u.Port()) || r.host(v, u.Hostname()) == ""):
	default:
		return u
	}
	return nil
}

// storeSSH is how to reach an sftp store's server.
func (r *resolver) storeSSH(v *value, u *url.URL) *site.SSH {
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		port = r.builtin.SSH.Port
	}
	ssh := v.get("ssh")
	identity, password, key := ssh.get("identity"), ssh.get("password"), ssh.get("hostKey")
	s := &site.SSH{
		Address: u.Hostname(), Port: port, User: u.User.Username(),
		Identity: r.path(identity, identity.str()), Password: r.secret(password),
	}
	switch known := key.get("knownHosts"); {
	case key == nil:
		s.HostKey.KnownHosts = r.path(v, r.builtin.SSH.HostKey.KnownHosts)
	case key.kind == text:
		s.HostKey.Any = true
	default:
		s.HostKey = site.HostKey{KnownHosts: r.path(known, known.str()), Fingerprint: key.get("fingerprint").str()}
	}
	return s
}

func (r *resolver) storeAge(v *value) *site.Age {
	recipients := v.get("recipients")
	if recipients != nil && len(recipients.items()) == 0 && !recipients.bad {
		r.fail(recipients, "nobody could read what is encrypted to nobody", "write the public key that age-keygen prints, or leave age out")
	}
	return &site.Age{Recipients: texts(recipients), Identity: r.secret(v.get("identity"))}
}

// secret says where a secret of a store is.
func (r *resolver) secret(v *value) site.SecretRef {
	ref, file := secretRef(v), v.get("file")
	ref.File = r.path(file, file.str())
	return ref
}
