// Package bmcsim is a machine with a BMC that exists only in memory: it holds
// state, takes time to change it, and misbehaves on demand in the ways that
// real BMCs were seen to (vendors.md, whose parts are cited by number).
//
// A Machine is one state machine with two front doors: Handler serves it as
// Redfish, Client speaks the vocabulary of package bmc to it without HTTP. Both
// pass through the same behaviours and faults and write the same log of
// requests.
//
//	Off --On--> POST --Timing.Post--> boots the CD, or else its disk
//	                  (the override is read and spent here)
//	ForceRestart = Host.Stop, then POST again
//	ForceOff     = Host.Stop, then Off
//	GracefulShutdown = Host.Shutdown, and Off once the host says that it is down
//	Host: HostWentOff, HostReset = Off, or POST again, without being asked
//
// The package knows nothing of the client that is tested against it, nor of
// the profiles that this client uses: a mistake that both shared would cancel
// out. What a Kind answers was written from published trees and field reports.
package bmcsim
