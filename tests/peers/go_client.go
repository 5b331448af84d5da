// Go's x/crypto/ssh and pkg/sftp as a client; peer_acts.ts says what the arguments mean.
package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func connect(name, address, username, keyFile, knownHosts string) *ssh.Client {
	key := must(ssh.ParsePrivateKey(must(os.ReadFile(keyFile))))
	config := &ssh.ClientConfig{
		User:            username,
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: must(knownhosts.New(knownHosts)),
		// It would choose another type by itself, and find that unknown.
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	}
	if name == "rekey" {
		config.RekeyThreshold = 1000000
	}
	return must(ssh.Dial("tcp", address, config))
}

func status(err error) int {
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return exit.ExitStatus()
	}
	check(err)
	return 0
}

func execute(client *ssh.Client, command string) int {
	session := must(client.NewSession())
	session.Stdin, session.Stdout, session.Stderr = os.Stdin, os.Stdout, os.Stderr
	return status(session.Run(command))
}

func useTerminal(client *ssh.Client, command string) int {
	session := must(client.NewSession())
	check(session.RequestPty("xterm", 30, 100, ssh.TerminalModes{}))
	input := must(session.StdinPipe())
	output := bufio.NewReader(must(session.StdoutPipe()))
	check(session.Start(command))
	fmt.Print(must(output.ReadString('\n')))
	check(session.WindowChange(40, 120))
	must(io.WriteString(input, "go\n"))
	must(io.Copy(os.Stdout, output))
	return status(session.Wait())
}

func transfer(client *ssh.Client, folder string) {
	files := must(sftp.NewClient(client))
	defer files.Close()
	check(files.Mkdir(folder + "/remote"))
	put := must(files.Create(folder + "/remote/file"))
	must(io.Copy(put, must(os.Open(folder+"/file"))))
	check(put.Close())
	check(files.Rename(folder+"/remote/file", folder+"/remote/renamed"))
	for _, entry := range must(files.ReadDir(folder + "/remote")) {
		fmt.Println(entry.Name())
	}
	back := must(os.Create(folder + "/back"))
	must(io.Copy(back, must(files.Open(folder+"/remote/renamed"))))
	check(back.Close())
	if errors.Is(files.Remove(folder+"/remote/missing"), os.ErrNotExist) {
		fmt.Println("missing")
	}
}

func closeWrite(connection io.Writer) {
	if half, ok := connection.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

func forwardLocal(client *ssh.Client, to string) {
	connection := must(client.Dial("tcp", "127.0.0.1:"+to))
	go func() {
		io.Copy(connection, os.Stdin)
		closeWrite(connection)
	}()
	must(io.Copy(os.Stdout, connection))
}

func forwardRemote(client *ssh.Client, to string) {
	listener := must(client.Listen("tcp", "127.0.0.1:0"))
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	fmt.Println("port", port)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			service := must(net.Dial("tcp", "127.0.0.1:"+to))
			go func() {
				io.Copy(service, connection)
				closeWrite(service)
			}()
			go func() {
				io.Copy(connection, service)
				connection.Close()
			}()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
}

func runTen(client *ssh.Client) {
	lines := make([]string, 10)
	inputs := make([]io.WriteCloser, 10)
	var waiting sync.WaitGroup
	for number := range lines {
		session := must(client.NewSession())
		inputs[number] = must(session.StdinPipe())
		output := must(session.StdoutPipe())
		check(session.Start(fmt.Sprintf("cat; exit %d", number)))
		waiting.Add(1)
		go func(number int) {
			defer waiting.Done()
			hash := sha256.New()
			must(io.Copy(hash, output))
			lines[number] = fmt.Sprintf("%d %d %x", number, status(session.Wait()), hash.Sum(nil))
		}(number)
	}
	for number, input := range inputs {
		must(io.WriteString(input, strings.Repeat(fmt.Sprint(number), 20000)))
		check(input.Close())
	}
	waiting.Wait()
	fmt.Println(strings.Join(lines, "\n"))
}

func main() {
	name, host, port, username, keyFile, knownHosts := os.Args[1], os.Args[2], os.Args[3],
		os.Args[4], os.Args[5], os.Args[6]
	client := connect(name, net.JoinHostPort(host, port), username, keyFile, knownHosts)
	switch name {
	case "exec", "rekey":
		os.Exit(execute(client, os.Args[7]))
	case "terminal":
		os.Exit(useTerminal(client, os.Args[7]))
	case "sftp":
		transfer(client, os.Args[7])
	case "local":
		forwardLocal(client, os.Args[7])
	case "remote":
		forwardRemote(client, os.Args[7])
	case "ten":
		runTen(client)
	}
}
