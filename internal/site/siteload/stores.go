package siteload

import (
	"net/url"
	"path"
	"slices"
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
	switch u.Scheme {
	case "sftp":
		s.SSH = r.storeSSH(v, u)
		r.useless(v, "an s3 URL", s3Keys...)
	case "s3":
		s.S3 = r.storeS3(v)
		r.useless(v, "an sftp URL", "ssh")
	default:
		r.useless(v, "an sftp URL", "ssh")
		r.useless(v, "an s3 URL", s3Keys...)
	}
}

// s3Keys are those that go with an S3 server.
var s3Keys = []string{"endpoint", "region", "accessKey", "secretKey", "tls"}

// useless reports keys that go with another kind of URL.
func (r *resolver) useless(v *value, other string, keys ...string) {
	for _, key := range keys {
		if w := v.get(key); w != nil {
			r.failKey(w, "there is no server for this key to be about at "+quote(urlUser.ReplaceAllString(v.get("url").text, "://…@")), "remove it, or write "+other)
		}
	}
}

// storeS3 is how to reach an S3 store's server.
func (r *resolver) storeS3(v *value) *site.S3 {
	for _, want := range [][2]string{{"accessKey", "{env: NAME}"}, {"endpoint", "https://host:port"}, {"secretKey", "{env: NAME}"}} {
		if v.get(want[0]) == nil {
			line, column := v.keyPlace()
			r.failAt(line, column, v.path()+"."+want[0], "this key is missing, which an s3 URL needs", "write "+want[0]+": "+want[1])
		}
	}
	endpoint, tls := v.get("endpoint"), v.get("tls")
	s := &site.S3{
		Endpoint: strings.TrimSuffix(r.webURL(endpoint), "/"), Region: defaultRegion,
		AccessKey: r.secret(v.get("accessKey")), SecretKey: r.secret(v.get("secretKey")), TLS: certificate(tls),
	}
	if region := v.get("region").str(); region != "" {
		s.Region = region
	}
	ca := tls.get("ca")
	s.TLS.CA = r.path(ca, ca.str())
	if tls != nil && strings.HasPrefix(s.Endpoint, "http://") {
		r.failKey(tls, "there is no certificate where the endpoint is http", "write an https endpoint, or leave tls out")
	}
	return s
}

// defaultRegion is what servers without regions take.
const defaultRegion = "us-east-1"

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
	case u.Scheme == "s3": // the schema leaves no roundabout ways but dots
		if slices.ContainsFunc(strings.Split(u.Path, "/"), func(part string) bool { return part == "." || part == ".." }) {
			r.fail(v, v.show()+" is a roundabout way to name a prefix", "write it without dots between slashes")
			return nil
		}
		return u
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
