/* JSch as a client; peer_acts.ts says what the arguments mean. */

import com.jcraft.jsch.Channel;
import com.jcraft.jsch.ChannelDirectTCPIP;
import com.jcraft.jsch.ChannelExec;
import com.jcraft.jsch.ChannelSftp;
import com.jcraft.jsch.JSch;
import com.jcraft.jsch.Session;
import com.jcraft.jsch.SftpException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.security.MessageDigest;

class JschClient {
  public static void main(String[] args) throws Exception {
    JSch jsch = new JSch();
    // It knows no Ed25519, and keys in PEM alone.
    jsch.addIdentity(args[4] + "_ecdsa");
    jsch.setKnownHosts(args[5]);
    Session session = jsch.getSession(args[3], args[1], Integer.parseInt(args[2]));
    session.setConfig("PreferredAuthentications", "publickey");
    session.connect();
    int status = 0;
    switch (args[0]) {
      case "exec" -> status = execute(session, args[6]);
      case "terminal" -> status = useTerminal(session, args[6]);
      case "sftp" -> transfer(session, args[6]);
      case "local" -> forwardLocal(session, Integer.parseInt(args[6]));
      case "remote" -> forwardRemote(session, Integer.parseInt(args[6]));
      case "ten" -> runTen(session);
      default -> throw new IllegalArgumentException(args[0]);
    }
    System.out.flush();
    session.disconnect();
    System.exit(status);
  }

  static int execute(Session session, String command) throws Exception {
    ChannelExec channel = (ChannelExec) session.openChannel("exec");
    channel.setCommand(command);
    channel.setInputStream(System.in);
    channel.setErrStream(System.err, true);
    InputStream output = channel.getInputStream();
    channel.connect();
    output.transferTo(System.out);
    return statusOf(channel);
  }

  static int statusOf(Channel channel) throws Exception {
    while (!channel.isClosed()) Thread.sleep(5);
    channel.disconnect();
    return channel.getExitStatus();
  }

  static int useTerminal(Session session, String command) throws Exception {
    ChannelExec channel = (ChannelExec) session.openChannel("exec");
    channel.setCommand(command);
    channel.setPty(true);
    channel.setPtyType("xterm", 100, 30, 0, 0);
    InputStream output = channel.getInputStream();
    OutputStream input = channel.getOutputStream();
    channel.connect();
    boolean isFirstLine = true;
    for (int octet; (octet = output.read()) >= 0;) {
      System.out.write(octet);
      if (octet != '\n' || !isFirstLine) continue;
      isFirstLine = false;
      channel.setPtySize(120, 40, 0, 0);
      input.write("go\n".getBytes());
      input.flush();
    }
    return statusOf(channel);
  }

  static void transfer(Session session, String folder) throws Exception {
    ChannelSftp sftp = (ChannelSftp) session.openChannel("sftp");
    sftp.connect();
    sftp.mkdir(folder + "/remote");
    sftp.put(folder + "/file", folder + "/remote/file");
    sftp.rename(folder + "/remote/file", folder + "/remote/renamed");
    System.out.println(sftp.ls(folder + "/remote"));
    sftp.get(folder + "/remote/renamed", folder + "/back");
    try {
      sftp.rm(folder + "/remote/missing");
    } catch (SftpException error) {
      if (error.id == ChannelSftp.SSH_FX_NO_SUCH_FILE) System.out.println("missing");
    }
    sftp.disconnect();
  }

  static void forwardLocal(Session session, int to) throws Exception {
    ChannelDirectTCPIP channel = (ChannelDirectTCPIP) session.openChannel("direct-tcpip");
    channel.setHost("127.0.0.1");
    channel.setPort(to);
    InputStream output = channel.getInputStream();
    OutputStream input = channel.getOutputStream();
    channel.connect();
    byte[] data = System.in.readAllBytes();
    Thread sending = new Thread(() -> {
      try {
        input.write(data);
        input.flush();
      } catch (IOException error) {
        error.printStackTrace();
      }
    });
    sending.start();
    // It closes a channel with the end of its input: first a line, then as much as was sent.
    int octet;
    do System.out.write(octet = output.read()); while (octet != '\n');
    System.out.write(output.readNBytes(data.length));
    sending.join();
    channel.disconnect();
  }

  static void forwardRemote(Session session, int to) throws Exception {
    // It does not tell which port the server took for 0.
    int port;
    try (ServerSocket free = new ServerSocket(0)) {
      port = free.getLocalPort();
    }
    session.setPortForwardingR("127.0.0.1", port, "127.0.0.1", to);
    System.out.println("port " + port);
    System.out.flush();
    System.in.transferTo(OutputStream.nullOutputStream());
  }

  static void runTen(Session session) throws Exception {
    ChannelExec[] channels = new ChannelExec[10];
    InputStream[] outputs = new InputStream[10];
    OutputStream[] inputs = new OutputStream[10];
    for (int number = 0; number < 10; number++) {
      channels[number] = (ChannelExec) session.openChannel("exec");
      channels[number].setCommand("cat; exit " + number);
      outputs[number] = channels[number].getInputStream();
      inputs[number] = channels[number].getOutputStream();
      channels[number].connect();
    }
    for (int number = 0; number < 10; number++) {
      inputs[number].write(Integer.toString(number).repeat(20000).getBytes());
      inputs[number].close();
    }
    for (int number = 0; number < 10; number++) {
      MessageDigest hash = MessageDigest.getInstance("SHA-256");
      hash.update(outputs[number].readAllBytes());
      StringBuilder digest = new StringBuilder();
      for (byte octet : hash.digest()) digest.append(String.format("%02x", octet));
      System.out.println(number + " " + statusOf(channels[number]) + " " + digest);
    }
  }
}
