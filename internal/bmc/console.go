package bmc

// A ConsoleWay names how a BMC gives a serial console: a strategy of package
// console, which a row of profiles.cue names, or the site file.
type ConsoleWay string

// The ways.
const (
	ConsoleVSP       ConsoleWay = "ssh-vsp"        // ssh, and VSP typed there
	ConsoleSSH       ConsoleWay = "ssh-console"    // ssh to a port that is the console
	ConsoleSMASH     ConsoleWay = "ssh-smash"      // ssh, and the start of a SMASH target
	ConsoleSOL       ConsoleWay = "ipmi-sol"       // IPMI serial over LAN
	ConsoleStickySOL ConsoleWay = "ipmi-sol-reset" // the same, where sessions stick
)

// A SerialConsole is what a BMC says of a system's serial console (Redfish
// ComputerSystem.SerialConsole). Its zero value says nothing.
type SerialConsole struct {
	SSH, IPMI ConsoleService
}

// A ConsoleService is one protocol of a SerialConsole.
type ConsoleService struct {
	Enabled bool
	Port    int    // 0 if it is not said
	Entry   string // what is typed there to get the console; "" for nothing
}
